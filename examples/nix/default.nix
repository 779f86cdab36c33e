# An environment without nixpkgs: the little that Nix itself needs to enter one.
let
  system = builtins.currentSystem;

  # What enters a shell: it puts programs on PATH and runs the shell's hook.
  stdenv = derivation {
    inherit system;
    name = "small-stdenv";
    builder = "/bin/sh";
    PATH = "/bin:/usr/bin";
    setup = ''
      for input in $buildInputs; do PATH="$input/bin:$PATH"; done
      export PATH
      runHook() { eval "''${!1}"; }
    '';
    args = [ "-c" "mkdir $out; printf '%s' \"$setup\" > $out/setup" ];
  };

  # The program of this repository.
  knots = derivation {
    inherit system;
    name = "knots-1.0";
    builder = "/bin/sh";
    PATH = "/bin:/usr/bin";
    program = ''
      #!/bin/sh
      # Miles in an hour to knots.
      awk -v miles="$1" 'BEGIN { printf "%.1f\n", miles * 0.868976 }'
    '';
    args = [ "-c" "mkdir -p $out/bin; printf '%s' \"$program\" > $out/bin/knots; chmod +x $out/bin/knots" ];
  };
in
derivation {
  inherit system stdenv;
  name = "shell";
  builder = "/bin/sh";
  args = [ "-c" "echo $buildInputs > $out" ];
  buildInputs = [ knots ];
  shellHook = "export HARBOUR=Plymouth";
}
