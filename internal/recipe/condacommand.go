package recipe

import "regexp"

// condaCommands are the package managers of conda's world that postBuild or start
// call, by the names that their packages have in conda-forge. All images of
// repo2docker have them; ours where they are called.
func (r *reader) condaCommands() []string {
	var out []string
	for _, tool := range []string{"conda", "mamba"} {
		call := regexp.MustCompile(`(?m)^[^#\n]*\b` + tool + `\s+(--?[a-z-]+\s+)*(activate|clean|config|create|env|info|init|install|list|remove|run|search|uninstall|update|upgrade)\b`)
		for _, name := range []string{"postBuild", "start"} {
			if b, ok, err := r.bytes(r.path(name), maxFile); ok && err == nil && call.Match(b) {
				out = append(out, tool)
				break
			}
		}
	}
	return out
}

// condaServer makes the environment of plain Python by conda, so that what scripts
// install with conda is in it. It says no where a lock decides, which needs uv's.
func (r *reader) condaServer() bool {
	tools := r.condaCommands()
	if len(tools) == 0 || r.old || r.Kind == "nix" { // its shell may bring its own
		return r.old
	}
	by := r.lock
	if r.Kind == "pipenv" {
		by = "the Pipfile"
	}
	if by != "" {
		r.note(r.path("postBuild"), 0, tools[0]+" is called, and is not there beside "+by+".", "Describe the environment in environment.yml.")
		return false
	}
	return true
}

// condaSettings is the configuration of conda and mamba for scripts, as in
// repo2docker: packages come from conda-forge, and what is there stays as it is.
func (r *reader) condaSettings(prefix string) string {
	if len(r.condaCommands()) == 0 {
		return ""
	}
	r.Env["MAMBA_ROOT_PREFIX"], r.Env["CONDA_ENVS_DIRS"] = prefix, "/srv/conda/envs"
	return `printf '%s\n' 'channels: [conda-forge]' 'auto_update_conda: false' 'show_channel_urls: true' 'update_dependencies: false' > ` + prefix + `/.condarc
`
}
