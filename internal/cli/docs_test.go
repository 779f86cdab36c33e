package cli_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/binnacle-hub/binnacle/internal/cli"
)

// Every command that the documentation shows is one that this program knows, with
// flags that it knows. Those of the workshop are run, by test/e2e.
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
