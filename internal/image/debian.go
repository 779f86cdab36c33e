package image

import (
	"maps"
	"slices"
	"strings"
)

// debianPackages reads dpkg's status file: "name=version" of what is installed, its
// hash as a comment where it is known (sums has it by name=version), and below it,
// after "# via", what needs it. Any of it can stand in an apt.txt.
func debianPackages(status string, sums map[string]string) []string {
	var list []map[string]string
	gives := map[string][]string{} // packages by their names and by what they provide
	for block := range strings.SplitSeq(status, "\n\n") {
		field := map[string]string{}
		for line := range strings.SplitSeq(block, "\n") {
			if name, value, ok := strings.Cut(line, ": "); ok && !strings.HasPrefix(line, " ") {
				field[name] = value
			}
		}
		if field["Status"] != "install ok installed" {
			continue
		}
		list = append(list, field)
		for _, name := range append(debianNames(field["Provides"]), field["Package"]) {
			gives[name] = append(gives[name], field["Package"])
		}
	}
	needed := map[string]map[string]bool{}
	for _, field := range list {
		for group := range strings.SplitSeq(field["Pre-Depends"]+","+field["Depends"], ",") {
			for _, name := range debianNeed(group, gives) {
				if needed[name] == nil {
					needed[name] = map[string]bool{}
				}
				needed[name][field["Package"]] = true
			}
		}
	}
	var out []string
	for _, field := range list {
		name := field["Package"]
		line := name + "=" + field["Version"]
		if sum := sums[line]; sum != "" {
			line += " # sha256:" + sum
		}
		out = append(out, line)
		delete(needed[name], name)
		for _, by := range slices.Sorted(maps.Keys(needed[name])) {
			out = append(out, "    # via "+by)
		}
	}
	return out
}

// debianNeed is what satisfies a dependency, which may name alternatives: those
// that are installed of the first of them.
func debianNeed(group string, gives map[string][]string) []string {
	for alternative := range strings.SplitSeq(group, "|") {
		for _, name := range debianNames(alternative) {
			if found := gives[name]; len(found) > 0 {
				return found
			}
		}
	}
	return nil
}

// debianNames are the names in a field, without versions and architectures.
func debianNames(field string) []string {
	var out []string
	for part := range strings.SplitSeq(field, ",") {
		if words := strings.Fields(part); len(words) > 0 {
			name, _, _ := strings.Cut(words[0], ":")
			out = append(out, name)
		}
	}
	return out
}
