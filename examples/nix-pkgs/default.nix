# What the survey was computed with. <nixpkgs> is the release of the day of the commit.
{ pkgs ? import <nixpkgs> { } }:

pkgs.mkShell {
  packages = [
    pkgs.gdal
    (pkgs.python3.withPackages (ps: [ ps.jupyterlab ps.notebook ps.numpy ps.rasterio ]))
  ];
}
