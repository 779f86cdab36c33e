package recipe

// condaCauses are the ways in which conda packages can't be had, in the words of
// rattler and of our program.
func condaCauses() []cause {
	return []cause{
		{pattern: `conda: there is no package (\S+); its name is like`, message: "No channel has a package {}.", hint: "Check its name, and that its channel is listed; what it said names some that are like it.", tools: true},
		{pattern: `conda: there is no package (\S+)`, message: "No channel has a package {}.", hint: "Check its name, and that its channel is listed. A package that only PyPI has goes below `pip:`.", tools: true},
		{pattern: `conda: no version of (\S+) fits`, message: "No version of {} fits what is asked for.", hint: "Choose one of those that it names, or leave the version out.", tools: true},
		{pattern: `hash mismatch when extracting \S*/([A-Za-z0-9_.]+(?:-[A-Za-z0-9_.]+)*?)-[^-/\s]+-[^-/\s]+\.(?:conda|tar\.bz2)`, message: "What was downloaded for {} is not what its hash says.", hint: "Write the lock anew.", tools: true},
		{pattern: `failed to fetch ([A-Za-z0-9_.]+(?:-[A-Za-z0-9_.]+)*?)-[^-/\s]+-[^-/\s]+\.(?:conda|tar\.bz2).*404`, message: "The file of {} is not at its address any more.", hint: "Write the lock anew.", tools: true},
		{pattern: `could not find subdir '[^']*' in channel '[^']*?([^/']+)/?'`, message: "There is no channel {}.", hint: "Check its name below `channels:`.", tools: true},
		{pattern: `post-link script of (\S+) failed`, message: "The script that {} runs when it is installed failed.", hint: "The log has what it said. Choose another version, or leave the package out.", tools: true},
		{pattern: `conda: (?:Cannot solve the request because of: )?No candidates were found for ([A-Za-z0-9._-]+)`, message: "No channel has a package {} that fits.", hint: "Check its name and version, and that its channel is listed.", tools: true},
		{pattern: `conda: Cannot solve the request`, message: "The conda packages can't be installed together.", hint: looksOver, tools: true}, // see condaPair
		{pattern: `invalid match spec`, message: "A dependency is not written the way conda reads it.", hint: "Write it like name, name=1.2 or channel::name=1.2.", tools: true},
	}
}

// condaPackages are those of the file that a step without any of its own is for:
// Jupyter joins an environment and runs the scripts of what is in it.
func (r Recipe) condaPackages(s Step) []Package {
	if len(s.Packages) > 0 || len(s.From) == 0 {
		return s.Packages
	}
	for _, other := range r.Steps {
		if len(other.Packages) > 0 && len(other.From) > 0 && other.Stage == s.Stage && other.From[0] == s.From[0] {
			return other.Packages
		}
	}
	return nil
}
