package recipe

import (
	"regexp"
	"strconv"
	"strings"
)

// juliaVersion is major, minor, patch.
type juliaVersion [3]int

func (v juliaVersion) less(w juliaVersion) bool {
	for i := range v {
		if v[i] != w[i] {
			return v[i] < w[i]
		}
	}
	return false
}

func (v juliaVersion) String() string {
	return strconv.Itoa(v[0]) + "." + strconv.Itoa(v[1]) + "." + strconv.Itoa(v[2])
}

// juliaRange holds the versions from From up to and without Below.
type juliaRange struct{ From, Below juliaVersion }

// noLimit is above every version.
const noLimit = 1 << 30

func (r juliaRange) has(v juliaVersion) bool { return !v.less(r.From) && v.less(r.Below) }

// The parts of Julia's grammar of [compat], as its package manager has it
// (Pkg, "Compatibility"): numbers have no leading zeros and a v may stand before.
const (
	juliaNumber = `(0|[1-9][0-9]{0,5})`
	juliaDotted = `v?` + juliaNumber + `(?:\.` + juliaNumber + `)?(?:\.` + juliaNumber + `)?`
)

// juliaRanges reads an entry of [compat]. A comma means "or". problem says what
// is wrong with it, with what to write instead.
func juliaRanges(spec string) (ranges []juliaRange, problem string) {
	for part := range strings.SplitSeq(spec, ",") {
		part = strings.TrimSpace(part)
		r, ok := juliaOne(part)
		if !ok {
			return nil, juliaProblem(part)
		}
		ranges = append(ranges, r)
	}
	return ranges, ""
}

func juliaProblem(part string) string {
	switch {
	case part == "":
		return "It has an empty part."
	case part == "*" || part == "latest":
		return short(part) + " is no version in Julia; leave the entry out to allow every version."
	case strings.HasPrefix(part, "<=") || strings.HasPrefix(part, "≤") || strings.HasPrefix(part, ">"):
		return "Julia knows no upper bound like " + short(part) + "; write a range such as 1.6 - 1.10."
	case regexp.MustCompile(`\d-|\d\+`).MatchString(part):
		return "A pre-release can't be asked for here: " + short(part) + "; write the version it leads to, or put blanks around the - of a range."
	}
	return short(part) + " is no version of Julia's."
}

// juliaOne reads one part between commas.
func juliaOne(part string) (juliaRange, bool) {
	if m := regexp.MustCompile(`^` + juliaDotted + `\s+-\s+` + juliaDotted + `$`).FindStringSubmatch(part); m != nil {
		from, _ := juliaParts(m[1:4])
		to, n := juliaParts(m[4:7])
		return juliaRange{from, next(to, n-1)}, true
	}
	m := regexp.MustCompile(`^(\^|~|≥\s*|>=\s*|=\s*|<\s*)?` + juliaDotted + `$`).FindStringSubmatch(part)
	if m == nil {
		return juliaRange{}, false
	}
	v, n := juliaParts(m[2:5])
	switch strings.TrimSpace(m[1]) {
	case "~":
		return juliaRange{v, next(v, min(n-1, 1))}, true
	case ">=", "≥":
		return juliaRange{v, juliaVersion{noLimit}}, true
	case "=":
		return juliaRange{v, next(v, 2)}, true
	case "<":
		return juliaRange{juliaVersion{}, v}, true
	}
	for i := range n { // caret: the first part that is not zero may not change
		if v[i] != 0 {
			return juliaRange{v, next(v, i)}, true
		}
	}
	return juliaRange{v, next(v, n-1)}, true
}

// juliaParts is a version and how many of its parts were written.
func juliaParts(parts []string) (v juliaVersion, n int) {
	for i, part := range parts {
		if part == "" {
			break
		}
		number, err := strconv.Atoi(part)
		if err != nil {
			break
		}
		v[i], n = number, i+1
	}
	return v, n
}

// next is the first version whose part i differs.
func next(v juliaVersion, i int) juliaVersion {
	var out juliaVersion
	copy(out[:i+1], v[:i+1])
	out[i]++
	return out
}

// juliaExact reads what a manifest says it was made with: 1.10.4, or 1.12.0-rc1.
func juliaExact(text string) (version juliaVersion, pre string, ok bool) {
	m := regexp.MustCompile(`^` + juliaNumber + `\.` + juliaNumber + `\.` + juliaNumber + `(?:-([0-9A-Za-z.-]{1,20}))?(?:\+[0-9A-Za-z.-]{1,40})?$`).FindStringSubmatch(text)
	if m == nil {
		return juliaVersion{}, "", false
	}
	version, _ = juliaParts(m[1:4])
	return version, m[4], true
}
