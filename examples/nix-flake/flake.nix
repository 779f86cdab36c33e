{
  description = "A shell that needs nothing from the internet";

  outputs = { self }:
    let
      shell = system: {
        default = derivation {
          inherit system;
          name = "shell";
          builder = "/bin/bash";
          args = [ "-c" "echo > $out" ];
          outputs = [ "out" ];
          harbour = "Falmouth";
        };
      };
    in
    {
      devShells.x86_64-linux = shell "x86_64-linux";
      devShells.aarch64-linux = shell "aarch64-linux";
    };
}
