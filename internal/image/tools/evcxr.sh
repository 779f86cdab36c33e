# The Rust kernel: a rust-analyzer is in it, which takes minutes to compile. Of
# the optimisations that take long, cells would notice nothing.
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -q --yes --no-install-recommends cargo rust-src rustc
export HOME=/root CARGO_HOME=/tmp/cargo CARGO_TARGET_DIR=/tmp/target
export CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_STRIP=true
mirror=()
if [ -n "${BINNACLE_CRATES:-}" ]; then
  mirror=(--config 'source.crates-io.replace-with="mirror"' --config "source.mirror.registry=\"$BINNACLE_CRATES\"")
fi
# Not --quiet: a step that says nothing for long is stopped.
cargo install "${mirror[@]}" --locked --root "$out" --version 0.19.0 evcxr_jupyter
rm -f "$out"/.crates*

# Cells are shared objects that use one standard library: Debian's Rust has it
# only for linking into programs, so it is made from Debian's source.
cp -rL "$(rustc --print sysroot)/lib/rustlib/src/rust/library" /tmp/library
target=$(rustc -vV | sed -n 's/^host: //p')
(
  cd /tmp/library
  export __CARGO_DEFAULT_LIB_METADATA=evcxr RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zforce-unstable-if-unmarked
  cargo build "${mirror[@]}" --release --manifest-path sysroot/Cargo.toml --features panic-unwind --target "$target" --target-dir /tmp/std
)
lib="$out/sysroot/lib/rustlib/$target/lib"
mkdir -p "$lib"
cp /tmp/std/"$target"/release/deps/*.rlib /tmp/std/"$target"/release/deps/*.so "$lib/"
ls "$lib"/libstd-*.so
