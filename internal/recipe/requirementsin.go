package recipe

import (
	"slices"
	"strings"
)

// looseRequirements is what pip-tools and `uv pip compile` read; people commit it
// and forget what was made of it.
const looseRequirements = "requirements.in"

// requirementsInKind is a requirements.in without the requirements.txt that
// belongs to it. Whatever else names Python packages comes before it.
func requirementsInKind() kind {
	return kind{name: "requirements.in", has: func(r *reader) bool {
		if !r.has(looseRequirements) || slices.ContainsFunc(lockNames(), func(l lockName) bool { return r.has(l.name) }) {
			return false
		}
		named, err := r.namesPackages()
		if err != nil {
			r.err = err
		}
		return !named
	}, read: readRequirementsIn}
}

func readRequirementsIn(r *reader) error {
	file := r.path(looseRequirements)
	if err := r.choosePython(nil, nil); err != nil {
		return err
	}
	if err := r.pythonServer(); err != nil {
		return err
	}
	r.use(file, "Python packages")
	q, err := r.readRequirements(file)
	if err != nil {
		return err
	}
	if len(q.packages) == 0 {
		r.note(file, 0, file+" names no package.", "")
		return nil
	}
	r.note(file, 0, "There is no requirements.txt made of it, so the versions are those of the commit's day.",
		"Run `binnacle freeze`, or `uv pip compile "+looseRequirements+" -o "+strings.TrimSuffix(looseRequirements, "in")+"txt`, and commit it.")
	if q.local {
		r.add(r.pipStep(q, "pip: "+file, StageContent, ""))
		return nil
	}
	r.add(r.pipSteps(file, q)...)
	return nil
}
