// Package workshop runs the pages of the documentation as their readers do: each
// command of a page, in its order, in one shell, and what the page says that it
// prints has to be printed.
package workshop

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Lesson is one page, with what differs between its reader and a test.
type Lesson struct {
	// Page is the path of the page.
	Page string
	// Dir is where the reader's terminal is.
	Dir string
	// Binnacle is the text of a shell script that stands for the program.
	Binnacle string
	// Programs are the texts of further ones, by name.
	Programs map[string]string
	// Replace are words of the page, names of example.org mostly, and what they are
	// in the test.
	Replace map[string]string
	// Env is added to the environment.
	Env []string
	// Section is the heading below which the commands are that are run, such as
	// "## Install"; empty is all of the page.
	Section string
	// All runs the commands of this program in other blocks, in sentences and in tables
	// too.
	All bool
}

// command is one command of a page, and the lines that it prints, among others.
type command struct {
	line    int
	text    string
	printed []string
}

// Run runs all commands of the blocks marked `console`. A line that begins with $
// is a command; it goes on to the next lines when it has a here-document that ends
// with END. The other lines are what is printed, in this order; … stands for
// anything, and lines between them are not compared. A command must succeed.
func (l Lesson) Run(t *testing.T) {
	t.Helper()
	commands := parse(l.text(t), l.All)
	if len(commands) == 0 {
		t.Fatalf("%s has no commands", l.Page)
	}
	bin := t.TempDir()
	programs := map[string]string{"binnacle": l.Binnacle, "sudo": "exec \"$@\"\n"}
	maps.Copy(programs, l.Programs)
	for name, script := range programs {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/bash\n"+script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	mark := func(i int) string { return fmt.Sprintf("=== command %d ===", i) }
	var script strings.Builder
	for i, c := range commands {
		fmt.Fprintf(&script, "echo '%s'\n%s\n", mark(i), c.text)
	}
	file := filepath.Join(bin, "lesson")
	if err := os.WriteFile(file, []byte(script.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-e", file)
	cmd.Dir = l.Dir
	cmd.Env = append(append(os.Environ(), l.Env...), "PATH="+bin+":"+os.Getenv("PATH"))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	failed := cmd.Run()
	rest := out.String()
	for i, c := range commands {
		_, after, begun := strings.Cut(rest, mark(i)+"\n")
		if !begun {
			break // the one before failed
		}
		rest = after
		said, _, ended := strings.Cut(rest, mark(i+1)+"\n")
		t.Logf("%s:%d: $ %s\n%s", filepath.Base(l.Page), c.line, c.text, said)
		if !ended && failed != nil {
			t.Fatalf("%s:%d: $ %s: %v", l.Page, c.line, c.text, failed)
		}
		for _, want := range c.printed {
			at := pattern(want).FindStringIndex(said)
			if at == nil {
				t.Errorf("%s:%d: $ %s does not print %q", l.Page, c.line, c.text, want)
				break
			}
			said = said[at[1]:]
		}
	}
	if failed != nil {
		t.Errorf("%s: %v", l.Page, failed)
	}
}

// text is what is run of the page, each line where the page has it.
func (l Lesson) text(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(l.Page)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for from, to := range l.Replace {
		if !strings.Contains(text, from) {
			t.Errorf("%s has no %s any more", l.Page, from)
		}
		text = strings.ReplaceAll(text, from, to)
	}
	if l.Section != "" {
		above, below, _ := strings.Cut(text, "\n"+l.Section+"\n")
		below, _, _ = strings.Cut(below, "\n## ")
		text = strings.Repeat("\n", strings.Count(above, "\n")+2) + below // lines keep their numbers
	}
	return text
}

// Commands are those that are run of a page.
func Commands(text string, all bool) (out []string) {
	for _, c := range parse(text, all) {
		out = append(out, c.text)
	}
	return out
}

// elsewhere finds the commands of a line that is in no block for a console.
func elsewhere(line string) (out []string) {
	const command = `(?:sudo )?binnacle [a-z]`
	if strings.HasPrefix(line, "    ") {
		return regexp.MustCompile(`^ {4}`+command+`.*$`).FindAllString(line, 1)
	}
	for _, m := range regexp.MustCompile("`("+command+"[^`]*)`").FindAllStringSubmatch(line, -1) {
		out = append(out, m[1])
	}
	return out
}

func parse(text string, all bool) []command {
	var out []command
	inside, more := false, false
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimRight(line, " ")
		switch last := len(out) - 1; {
		case more:
			out[last].text += "\n" + line
			more = line != "END"
		case strings.HasPrefix(line, "```"):
			inside = line == "```console"
		case !inside:
			for _, text := range elsewhere(line) {
				if all {
					out = append(out, command{line: i + 1, text: strings.TrimSpace(text)})
				}
			}
		case line == "":
		case strings.HasPrefix(line, "$ "):
			out = append(out, command{line: i + 1, text: line[2:]})
			more = strings.Contains(line, "<<'END'")
		case last >= 0:
			out[last].printed = append(out[last].printed, line)
		}
	}
	return out
}

// pattern finds a line; blanks at its ends and how many there are don't matter.
func pattern(line string) *regexp.Regexp {
	var parts []string
	for word := range strings.FieldsSeq(line) {
		parts = append(parts, strings.ReplaceAll(regexp.QuoteMeta(word), "…", `.*`))
	}
	return regexp.MustCompile(strings.Join(parts, ` +`))
}
