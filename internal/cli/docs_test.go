package cli_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/binnacle-hub/binnacle/internal/cli"
	"github.com/binnacle-hub/binnacle/test/workshop"
)

// Every command that the documentation shows is one that this program knows, with
// flags that it knows. Those of the workshop, of the handbook and of troubleshooting
// are run, by test/e2e.
func TestDocumentedCommands(t *testing.T) {
	t.Parallel()
	shown := 0
	for _, root := range []string{"../../README.md", "../../CONTRIBUTING.md", "../../docs"} {
		err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() || filepath.Ext(path) != ".md" {
				return err
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for _, args := range documented(string(b)) {
				shown++
				if err := known(args); err != nil {
					t.Errorf("%s: binnacle %s: %v", path, strings.Join(args, " "), err)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	const some = 50
	if shown < some {
		t.Errorf("only %d commands were found: they are looked for in the wrong way", shown)
	}
}

// TestCommandsOfPagesAreRun: what the pages for an IT department and for a teacher name
// is run, because a page whose commands are all run has it too.
func TestCommandsOfPagesAreRun(t *testing.T) {
	t.Parallel()
	page := func(path string) string {
		t.Helper()
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	run := workshop.Commands(page("../../docs/handbook.md")+page("../../docs/troubleshooting.md"), true)
	lessons, err := filepath.Glob("../../docs/workshop/[1-9]-*.md")
	if err != nil || len(lessons) == 0 {
		t.Fatal(lessons, err)
	}
	for _, lesson := range lessons {
		run = append(run, workshop.Commands(page(lesson), false)...)
	}
	plain := strings.NewReplacer("sudo ", "", "|", " ", "&&", " ")
	named := 0
	for _, path := range []string{"../../docs/for-it.md", "../../docs/workshop/README.md"} {
		for _, command := range workshop.Commands(page(path), true) {
			named++
			if !slices.ContainsFunc(run, func(r string) bool { return strings.HasPrefix(plain.Replace(r)+" ", plain.Replace(command)+" ") }) {
				t.Errorf("%s: %s is run by no test", path, command)
			}
		}
	}
	const some = 3
	if named < some {
		t.Errorf("only %d commands were found: they are looked for in the wrong way", named)
	}
}

// TestDocumentedFailures: each cause that docs/failures.md lists says what one is
// told, and names tests that are there.
func TestDocumentedFailures(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/failures.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := testsOf(t, "../../internal", "../../test")
	rows := 0
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if !strings.HasPrefix(line, "|") || len(cells) != 3 || strings.HasPrefix(cells[0], "---") || strings.Contains(line, "provoked by") {
			continue
		}
		rows++
		if strings.TrimSpace(cells[1]) == "" {
			t.Errorf("one is told nothing: %s", line)
		}
		if !strings.Contains(cells[2], "`Test") {
			t.Errorf("no test: %s", line)
		}
	}
	const causes = 25
	if rows < causes {
		t.Errorf("%d causes, and the most frequent %d are to be there", rows, causes)
	}
	for _, m := range regexp.MustCompile("`(Test[A-Za-z]+)(/[^`]+)?`").FindAllStringSubmatch(string(page), -1) {
		text, ok := tests[m[1]]
		if !ok {
			t.Errorf("there is no %s", m[1])
		}
		for part := range strings.SplitSeq(strings.TrimPrefix(m[2], "/"), "/") {
			named := func(part string) bool {
				return regexp.MustCompile(`"` + strings.ReplaceAll(regexp.QuoteMeta(part), "_", "[_ ]") + `"`).MatchString(text)
			}
			begun, rest, _ := strings.Cut(part, "_") // t.Run("failing "+name, …)
			if part != "" && !named(part) && (!strings.Contains(text, `"`+begun+` "+name`) || !named(rest)) {
				t.Errorf("%s has no %q", m[1], part)
			}
		}
	}
}

// TestNotebooksAreRun: each example that has a notebook is launched by a test, or the
// list says that only its recipe is tested.
func TestNotebooksAreRun(t *testing.T) {
	t.Parallel()
	list, err := os.ReadFile("../../examples/README.md")
	if err != nil {
		t.Fatal(err)
	}
	notebooks, err := filepath.Glob("../../examples/*/index.ipynb")
	if err != nil {
		t.Fatal(err)
	}
	var tests strings.Builder
	for _, text := range testsOf(t, "../../test/e2e") {
		tests.WriteString(text)
	}
	alone := 0
	for _, file := range notebooks {
		name := filepath.Base(filepath.Dir(file))
		_, row, ok := strings.Cut(string(list), "`"+name+"`")
		row, _, _ = strings.Cut(row, "\n")
		recipeAlone := strings.Contains(row, "*Recipe alone*")
		if recipeAlone {
			alone++
		}
		if !ok || !recipeAlone && !strings.Contains(tests.String(), `"`+name+`"`) {
			t.Errorf("%s: it is not listed, or no test launches it", name)
		}
	}
	if len(notebooks) == alone || alone == 0 {
		t.Errorf("%d notebooks, %d of them not run: they are looked for in the wrong way", len(notebooks), alone)
	}
}

// testsOf is the text of each file of tests, by the names of the tests in it; those
// of one name in several packages are together.
func testsOf(t *testing.T, roots ...string) map[string]string {
	t.Helper()
	out := map[string]string{}
	function := regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`)
	for _, root := range roots {
		err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			b, err := os.ReadFile(path)
			for _, m := range function.FindAllSubmatch(b, -1) {
				out[string(m[1])] += string(b)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// A command begins a line of a block of code, perhaps after what a shell takes
// before it.
func documented(page string) (commands [][]string) {
	page = strings.ReplaceAll(page, "\\\n", " ")
	line := regexp.MustCompile(`(?m)^(?: {4}|\$ )(?:sudo )?(?:[A-Z_]+=\S+ )*(?:\.\./)?(?:bin/)?binnacle ([a-z].*)$`)
	quoted := regexp.MustCompile(`'[^']*'|"[^"]*"`)
	for _, m := range line.FindAllStringSubmatch(page, -1) {
		text := quoted.ReplaceAllStringFunc(m[1], func(s string) string { return strings.ReplaceAll(s[1:len(s)-1], " ", "_") })
		var args []string
		for word := range strings.FieldsSeq(text) {
			if strings.HasPrefix(word, "#") || strings.ContainsAny(word, "|>;&") && !strings.Contains(word, "=") {
				break
			}
			args = append(args, strings.Trim(word, "[]"))
		}
		commands = append(commands, args)
	}
	return commands
}

func known(args []string) error {
	cmd, rest, err := cli.Root().Find(args)
	if err != nil {
		return err
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	if more := cmd.Flags().Args(); cmd.HasSubCommands() && len(more) > 0 {
		return fmt.Errorf("%s has no command %s", cmd.CommandPath(), more[0])
	}
	return nil
}

// The table of binderhub-deploy's defects names a test for each, and the tests are
// there.
func TestDefectsHaveTests(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/deploy/binderhub-deploy.md")
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	err = filepath.WalkDir("..", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		for _, m := range regexp.MustCompile(`(?m)^func (TestDefect\w+)\(t`).FindAllStringSubmatch(string(b), -1) {
			there[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile(`(?m)^\| (\d+) \|.*\| (.*) \|$`).FindAllStringSubmatch(string(page), -1)
	const defects = 14
	if len(rows) != defects {
		t.Errorf("%d rows", len(rows))
	}
	for _, row := range rows {
		names := regexp.MustCompile("`(TestDefect\\w+)`").FindAllStringSubmatch(row[2], -1)
		if len(names) == 0 {
			t.Errorf("defect %s has no test", row[1])
		}
		for _, name := range names {
			number, _ := strconv.Atoi(row[1])
			if !there[name[1]] || !strings.Contains(name[1], fmt.Sprintf("%02d", number)) {
				t.Errorf("defect %s: there is no test %s", row[1], name[1])
			}
		}
	}
}
