#!/bin/bash
# Runs the session's command in the shell that the repository's Nix expression
# describes, as it was when the image was built: nothing is evaluated or fetched.
set -e
shell=/nix/var/shell
if [ -n "${R2D_START:-}" ]; then
  if [ -x "$R2D_START" ]; then set -- "$R2D_START" "$@"; else set -- bash "$R2D_START" "$@"; fi
fi
# Jupyter of the image must not take Python packages of the expression for its
# own: they are for another Python.
export R2D_JUPYTER="$NB_PYTHON_PREFIX/bin"
printf -v command '%q ' "$@"
enter='case "$(command -v jupyter-lab || true)" in "$R2D_JUPYTER"/*) unset PYTHONPATH PYTHONHOME ;; esac; exec '"$command"
# Every process is replaced by the next, so signals reach the command.
case "$(readlink -f "$shell")" in
*.drv) exec nix-shell "$shell" --run "$enter" ;;
*) exec nix develop --offline "$shell" --command bash -c "$enter" ;;
esac
