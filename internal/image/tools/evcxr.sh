# The Rust kernel: a rust-analyzer is in it, which takes minutes to compile. Of
# the optimisations that take long, cells would notice nothing.
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -q --yes --no-install-recommends cargo rustc
export HOME=/root CARGO_HOME=/tmp/cargo CARGO_TARGET_DIR=/tmp/target
export CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_STRIP=true
cargo install --quiet --locked --root "$out" --version 0.19.0 evcxr_jupyter
rm -f "$out"/.crates*
