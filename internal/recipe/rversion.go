package recipe

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// runtimeFile is a runtime.txt: "python-3.12", "r-4.3-2024-01-01".
type runtimeFile struct {
	name, version string
	date          time.Time
}

// splitRuntime reads the grammar that repo2docker has: name-version, name-date or
// name-version-date, nothing else in the file.
func splitRuntime(file, text string) (runtimeFile, error) {
	const example = "Write one line such as python-3.12 or r-4.5-2025-06-01."
	line := strings.TrimSpace(text)
	const plain, dated, full = 2, 4, 5 // parts
	parts := strings.Split(line, "-")
	if !slices.Contains([]int{plain, dated, full}, len(parts)) || slices.Contains(parts, "") {
		return runtimeFile{}, wrong(file, 1, "runtime.txt says "+short(line)+", which is neither a version nor a version and a date.", example)
	}
	out := runtimeFile{name: parts[0]}
	if len(parts) != dated {
		out.version = parts[1]
	}
	if len(parts) == plain {
		return out, nil
	}
	day := strings.Join(parts[len(parts)-3:], "-")
	date, err := time.Parse(time.DateOnly, day)
	if err != nil {
		return runtimeFile{}, wrong(file, 1, "runtime.txt names the date "+short(day)+", which is no day.", "Write year, month and day, as in r-4.5-2025-06-01.")
	}
	out.date = date
	return out, nil
}

// rRelease is a minor version of R: its newest patch release that we know of,
// and when it came.
type rRelease struct {
	minor, patch string
	since        string
}

// rReleases are those that Posit has builds of, oldest first; the patches are
// repo2docker's.
func rReleases() []rRelease {
	return []rRelease{
		{"3.3", "3.3.3", "2016-05-03"},
		{"3.4", "3.4.4", "2017-04-21"},
		{"3.5", "3.5.3", "2018-04-23"},
		{"3.6", "3.6.3", "2019-04-26"},
		{"4.0", "4.0.5", "2020-04-24"},
		{"4.1", "4.1.3", "2021-05-18"},
		{"4.2", "4.2.3", "2022-04-22"},
		{"4.3", "4.3.3", "2023-04-21"},
		{"4.4", "4.4.2", "2024-04-24"},
		{"4.5", "4.5.1", "2025-04-11"},
		{"4.6", "4.6.1", "2026-04-24"},
	}
}

// baseR is the R of Debian trixie, the base we bootstrap.
const baseR = "4.5.0"

// rAsk is what a file says of R's version.
type rAsk struct {
	version string // "", "4.3", "4.3.1"
	exact   bool   // a patch release is insisted on
	from    Location
}

// chooseR decides the version: Debian's own when it will do, because it is
// there already, else one of Posit's builds. posit is the exact version of such
// a build; empty is Debian's.
func (r *reader) chooseR(ask rAsk) (choice Choice, posit string, err error) {
	base := minorOf(r.opt.BaseR)
	if ask.version == "" {
		why := "the R of the base image"
		if ask.from.File != "" {
			why += "; " + ask.from.File + " names none"
		}
		return Choice{base, why}, "", nil
	}
	asks := ask.from.File + " asks for " + ask.version
	if !regexp.MustCompile(`^\d{1,2}\.\d{1,2}(\.\d{1,2})?$`).MatchString(ask.version) {
		return choice, "", wrong(ask.from.File, ask.from.Line, "R has no version "+short(ask.version)+".", "Choose one of "+rMinors()+".")
	}
	minor := minorOf(ask.version)
	if minor == base && (ask.version == minor || ask.version == r.opt.BaseR || !ask.exact) {
		return Choice{base, asks + ", which the base image has"}, "", nil
	}
	at := slices.IndexFunc(rReleases(), func(known rRelease) bool { return known.minor == minor })
	switch {
	case ask.version != minor:
		posit = ask.version
	case at >= 0:
		posit = rReleases()[at].patch
	default:
		return choice, "", wrong(ask.from.File, ask.from.Line, "R "+ask.version+" is not known to Binnacle.", "Choose one of "+rMinors()+".")
	}
	return Choice{posit, asks + ": a build by Posit"}, posit, nil
}

func rMinors() string {
	all := rReleases()
	names := make([]string, 0, len(all))
	for _, known := range all {
		names = append(names, known.minor)
	}
	return strings.Join(names, ", ")
}

// snapshots is the first day of which dated packages of CRAN are kept. Those
// before it were on a server that Microsoft has switched off.
func snapshots() time.Time { return time.Date(2018, time.December, 7, 0, 0, 0, 0, time.UTC) }

// rDate is the day whose CRAN is used: the one that runtime.txt names, else the
// first of the commit's month, so that not every commit makes the packages be
// installed anew. Zero is the newest.
func (r *reader) rDate(asked time.Time, file string) (time.Time, error) {
	first := snapshots()
	if !asked.IsZero() {
		return asked, r.noSnapshot(asked, file)
	}
	if r.opt.Date.IsZero() {
		return time.Time{}, nil
	}
	at := r.opt.Date.UTC()
	at = time.Date(at.Year(), at.Month(), 1, 0, 0, 0, 0, time.UTC)
	if at.Before(first) {
		at = first
	}
	return at, nil
}

// noSnapshot is an error for a day of which there can be no packages of CRAN.
func (r *reader) noSnapshot(asked time.Time, file string) error {
	first, day := snapshots(), asked.Format(time.DateOnly)
	today := r.opt.Today.UTC()
	switch {
	case asked.Before(first):
		return wrong(file, 1, "There are no packages of CRAN as of "+day+" any more: Microsoft has ended MRAN, which had those before "+first.Format(time.DateOnly)+".",
			"Choose a day since "+first.Format(time.DateOnly)+".")
	case !r.opt.Today.IsZero() && asked.After(today.AddDate(0, 0, 1)): // it is tomorrow already where some authors are
		return wrong(file, 1, "There are no packages of CRAN as of "+day+" yet: today is "+today.Format(time.DateOnly)+".",
			"Choose a day from "+first.Format(time.DateOnly)+" to "+today.Format(time.DateOnly)+".")
	default:
		return nil
	}
}

// rAge warns of packages that are older than the R they are to run on by so much
// that many of them will not.
func (r *reader) rAge(choice Choice, date time.Time, at Location) {
	if date.IsZero() {
		return
	}
	const tolerated = 400 * 24 * time.Hour
	then := ""
	for _, known := range rReleases() {
		since, err := time.Parse(time.DateOnly, known.since)
		if err != nil || since.After(date) {
			break
		}
		then = known.minor
	}
	i := slices.IndexFunc(rReleases(), func(known rRelease) bool { return known.minor == minorOf(choice.Value) })
	if i < 0 || then == "" {
		return
	}
	since, err := time.Parse(time.DateOnly, rReleases()[i].since)
	if err == nil && since.Sub(date) > tolerated {
		day := date.Format(time.DateOnly)
		r.note(at.File, at.Line, "The packages are those of "+day+", and R "+choice.Value+" is much newer: some may not install.",
			"Write r-"+then+"-"+day+" in runtime.txt to have the R of that day.")
	}
}

// compareR compares versions as R does: number by number, at dots and dashes.
func compareR(a, op, b string) bool {
	numbers := func(s string) []int {
		var out []int
		for part := range strings.FieldsFuncSeq(s, func(c rune) bool { return c == '.' || c == '-' }) {
			n, err := strconv.Atoi(part)
			if err != nil {
				return out
			}
			out = append(out, n)
		}
		for len(out) > 0 && out[len(out)-1] == 0 {
			out = out[:len(out)-1]
		}
		return out
	}
	c := slices.Compare(numbers(a), numbers(b))
	switch op {
	case ">=":
		return c >= 0
	case ">":
		return c > 0
	case "<=":
		return c <= 0
	case "<":
		return c < 0
	case "!=":
		return c != 0
	default:
		return c == 0
	}
}
