package recipe

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/binnacle-hub/binnacle"
)

// condaNode is a line of the tree in which conda's solver says why nothing fits. What
// is wanted and what there is of it take turns from the root to the leaves.
type condaNode struct {
	name, spec string
	wanted     bool // else it is what there is
	bad        bool // it can't be had, or may not be taken
	line       int  // of the output
	below      []*condaNode
}

// condaWant is what a package that was asked for wants of another, in the end.
type condaWant struct {
	name, spec string
	through    string // the package in between; empty when there is none
	bad        bool
	line       int
}

// condaParty is one of those that exclude each other.
type condaParty struct {
	name, says string
	from       Location
}

// condaPair names the packages that exclude each other and what each wants, and gives
// the lines of the output that show it. Without such a tree it leaves the error alone.
func condaPair(s Step, e *binnacle.Error, out output) []span {
	if !slices.Contains(s.Tools, "conda") {
		return nil
	}
	parties, shared, lines := s.condaParties(condaTree(out.lines))
	if len(parties) == 0 {
		return nil
	}
	var names, says, places []string
	for _, p := range parties {
		names, says = append(names, p.name), append(says, p.says)
		if p.from.File != "" {
			places = append(places, p.name+" is in line "+strconv.Itoa(p.from.Line))
		}
	}
	if at := parties[0].from; at.File != "" {
		e.File, e.Line = at.File, at.Line
	}
	const asks, last = "the file asks for ", " and "
	switch {
	case len(names) == 1:
		e.Message = names[0] + " can't be installed: " + says[0] + ", and there is no such version to be had."
		e.Hint = "Ask for another version of " + names[0] + ", or list the channel that has what it wants."
		return lines
	case names[0] == shared && names[1] == shared:
		slices.Sort(says)
		e.Message = "The file asks for versions that exclude each other: " + strings.ReplaceAll(strings.Join(says, last), asks, "") + "."
	default:
		e.Message = strings.Join(names[:len(names)-1], ", ") + last + names[len(names)-1] + " can't be installed together: " + strings.Join(says, "; ") + "."
	}
	e.Hint = "Ask for other versions, or leave one of them out"
	if len(places) > 1 {
		e.Hint += ": " + strings.Join(places, ", ")
	}
	e.Hint += "."
	return lines
}

// condaParties are those that want something of the same package, in the order of the
// file.
func (s Step) condaParties(wishes []*condaNode) (parties []condaParty, shared string, lines []span) {
	seen := map[Location]bool{}
	add := func(name, says string) {
		p := condaParty{name: name, says: says}
		if i := slices.IndexFunc(s.Packages, func(p Package) bool { return canonical(p.Name) == canonical(name) && !seen[p.From] }); i >= 0 {
			p.from = s.Packages[i].From
			seen[p.from] = true
		}
		parties = append(parties, p)
	}
	shared = condaShared(wishes)
	for _, w := range wishes {
		if says, shown := w.says(shared); says != "" {
			add(w.name, says)
			lines = append(lines, shown...)
		}
	}
	if len(parties) == 1 { // what the file itself asks for is the other side
		for _, p := range s.Packages {
			if canonical(p.Name) == canonical(shared) && p.Name != parties[0].name {
				add(p.Name, "the file asks for "+strings.Join(strings.Fields(p.Spec), " "))
			}
		}
	}
	slices.SortStableFunc(parties, func(a, b condaParty) int {
		const unknown = 1 << 30
		return cmp.Compare(cmp.Or(a.from.Line, unknown), cmp.Or(b.from.Line, unknown))
	})
	return parties, shared, lines
}

// jupyter stands for what our own constraints are for.
const jupyter = "Jupyter"

// condaTree reads the tree; it gives what was asked for, each with what that leads to.
func condaTree(lines []string) []*condaNode {
	const mark = "conda: Cannot solve the request because of: "
	from := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(strings.TrimSpace(l), mark) })
	if from < 0 {
		return nil
	}
	wanted := regexp.MustCompile(`^([A-Za-z0-9._-]+) ?(.*?),? (?:which )?(?:cannot be installed because|can be installed with|conflicts with any installable|for which no candidates)`)
	ours := regexp.MustCompile(`^the constraint ([A-Za-z0-9._-]+) ?(.*) cannot be fulfilled`)
	unfit := regexp.MustCompile(`conflicts with |for which no candidates|is locked|is excluded`)
	above := []*condaNode{{}} // the root, and the way to the line before
	for i, l := range lines[from:] {
		if i == 0 {
			l = strings.TrimPrefix(strings.TrimSpace(l), mark)
		}
		text := strings.TrimLeft(l, "│├└─ ")
		const step = 3 // characters
		depth := (len([]rune(l)) - len([]rune(text))) / step
		if i > 0 && depth == 0 {
			break
		}
		n := &condaNode{line: from + i, bad: unfit.MatchString(text)}
		if m := wanted.FindStringSubmatch(text); m != nil {
			n.name, n.spec, n.wanted = m[1], m[2], true
		} else if m := ours.FindStringSubmatch(text); m != nil {
			n.name = jupyter
			n.below = []*condaNode{{name: m[1], spec: m[2], wanted: true, bad: true, line: from + i}}
		} else {
			n.name, _, _ = strings.Cut(text, " ")
		}
		above = above[:min(len(above), depth+1)]
		parent := above[len(above)-1]
		parent.below, above = append(parent.below, n), append(above, n)
	}
	first := above[0].below[0]
	if first.wanted {
		return []*condaNode{first}
	}
	return first.below
}

// wants are the leaves of what is wanted.
func (n *condaNode) wants(wish, through string) []condaWant {
	if !n.wanted && n.name != wish {
		through = n.name
	}
	var out []condaWant
	bad := n.bad
	for _, c := range n.below {
		out = append(out, c.wants(wish, through)...)
		bad = bad || c.bad
	}
	if n.wanted && len(out) == 0 {
		return []condaWant{{n.name, n.spec, through, bad, n.line}}
	}
	return out
}

// says is what something that was asked for wants of a package, and the lines that
// show it; nothing when it wants nothing of it.
func (n *condaNode) says(shared string) (string, []span) {
	const most = 3
	var specs []string
	through, lines := "", []span{{n.line, n.line}}
	for _, w := range n.wants(n.name, "") {
		if w.name == shared && !slices.Contains(specs, w.spec) && len(specs) < most {
			specs, through, lines = append(specs, w.spec), w.through, append(lines, span{w.line, w.line})
		}
	}
	switch {
	case len(specs) == 0:
		return "", nil
	case n.name == shared:
		return strings.TrimSuffix("the file asks for "+n.name+" "+n.spec, " *"), lines
	}
	text := strings.TrimSuffix(strings.TrimSpace(n.name+" "+n.spec), " *") + " wants " + shared + " " + strings.Join(specs, " or ")
	if through != "" {
		text += " (through " + through + ")"
	}
	return text, lines
}

// condaShared is the package of which most of what was asked for wants something, and
// not all can have it.
func condaShared(wishes []*condaNode) string {
	count, bad := map[string]int{}, map[string]bool{}
	var order []string
	for _, w := range wishes {
		seen := map[string]bool{}
		for _, want := range w.wants(w.name, "") {
			if !seen[want.name] {
				order, seen[want.name] = append(order, want.name), true
				count[want.name]++
			}
			bad[want.name] = bad[want.name] || want.bad
		}
	}
	best := ""
	for _, name := range order {
		if bad[name] && count[name] > count[best] {
			best = name
		}
	}
	return best
}
