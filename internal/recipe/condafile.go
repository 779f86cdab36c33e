package recipe

import (
	"regexp"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// condaEnv is what of an environment.yml counts.
type condaEnv struct {
	channels []condaChannel
	conda    []Package
	pip      []Package
	vars     []condaVariable
}

type condaVariable struct {
	name, value string
	line        int
}

type condaChannel struct {
	name string
	line int
}

// parseConda reads environment.yml. name: and prefix: do not count.
func parseConda(file, text string) (condaEnv, error) {
	var env condaEnv
	var root yaml.Node
	if err := yaml.Unmarshal([]byte(text), &root); err != nil {
		return env, wrong(file, yamlLine(err), file+" is not valid YAML: "+strings.TrimPrefix(err.Error(), "yaml: ")+".", "Correct this line; indent with blanks, not tabs.")
	}
	if len(root.Content) == 0 || (root.Content[0].Kind == yaml.ScalarNode && root.Content[0].Tag == "!!null") {
		return env, nil
	}
	top := root.Content[0]
	if top.Kind != yaml.MappingNode {
		return env, wrong(file, top.Line, file+" holds no mapping of names to values.", "Write `dependencies:` and a list below it.")
	}
	for i := 0; i+1 < len(top.Content); i += 2 {
		var err error
		switch key := top.Content[i]; key.Value {
		case "channels":
			env.channels, err = condaChannelList(file, key.Line, resolved(top.Content[i+1]))
		case "dependencies":
			err = env.dependencies(file, key.Line, resolved(top.Content[i+1]))
		case "variables":
			err = env.variables(file, key.Line, resolved(top.Content[i+1]))
		}
		if err != nil {
			return condaEnv{}, err
		}
	}
	return env, nil
}

// variables are those that conda would set when it activates the environment.
func (env *condaEnv) variables(file string, line int, n *yaml.Node) error {
	const most = 1000
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return nil
	}
	if n.Kind != yaml.MappingNode || len(n.Content) > 2*most {
		return wrong(file, line, "variables is not a list of names with a value each.", "Write each on a line of its own, like NAME: value.")
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		value := resolved(n.Content[i+1])
		if value.Kind != yaml.ScalarNode {
			return wrong(file, value.Line, "The variable "+short(n.Content[i].Value)+" has no text for its value.", "Write it like NAME: value.")
		}
		env.vars = append(env.vars, condaVariable{n.Content[i].Value, value.Value, n.Content[i].Line})
	}
	return nil
}

// resolved follows one alias.
func resolved(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

func listOf(file, name string, line int, n *yaml.Node) ([]*yaml.Node, error) {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return nil, nil
	}
	if n.Kind != yaml.SequenceNode {
		return nil, wrong(file, line, name+" is not a list.", "Write each of them on a line of its own, after a dash.")
	}
	return n.Content, nil
}

func condaChannelList(file string, line int, n *yaml.Node) ([]condaChannel, error) {
	list, err := listOf(file, "channels", line, n)
	if err != nil {
		return nil, err
	}
	var out []condaChannel
	for _, c := range list {
		c = resolved(c)
		if c.Kind != yaml.ScalarNode || !validChannel(c.Value) {
			return nil, wrong(file, c.Line, "This is not a conda channel: "+short(c.Value)+".", "Write a name such as conda-forge, or an https:// address without a password.")
		}
		out = append(out, condaChannel{strings.TrimSuffix(c.Value, "/"), c.Line})
	}
	return out, nil
}

// validChannel takes names and public addresses.
func validChannel(name string) bool {
	return regexp.MustCompile(`^(https?://[^\s"'@]+|[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*)$`).MatchString(name) && !strings.Contains(name, "..")
}

func (env *condaEnv) dependencies(file string, line int, n *yaml.Node) error {
	list, err := listOf(file, "dependencies", line, n)
	if err != nil {
		return err
	}
	for _, d := range list {
		d = resolved(d)
		switch {
		case d.Kind == yaml.ScalarNode && condaName(d.Value) != "" && !strings.ContainsAny(d.Value, "\x00\n;&`$"):
			env.conda = append(env.conda, Package{Manager: "conda", Name: condaName(d.Value), Spec: strings.TrimSpace(d.Value), From: Location{file, d.Line}})
		case d.Kind == yaml.MappingNode && len(d.Content) == 2 && d.Content[0].Value == "pip":
			pip, err := listOf(file, "pip", d.Content[0].Line, resolved(d.Content[1]))
			if err != nil {
				return err
			}
			for _, p := range pip {
				p = resolved(p)
				if p.Kind != yaml.ScalarNode || strings.TrimSpace(p.Value) == "" {
					return wrong(file, p.Line, "This is not a requirement of pip.", "Write one on each line, like name or name==1.2.")
				}
				env.pip = append(env.pip, Package{Manager: "pip", Name: nameOf(p.Value), Spec: strings.TrimSpace(p.Value), From: Location{file, p.Line}})
			}
		default:
			return wrong(file, d.Line, "This dependency is neither a conda package nor a `pip:` list: "+short(d.Value)+".", "Write one package on each line, like name or name=1.2.")
		}
	}
	return nil
}

// condaName is the package of a match spec such as conda-forge::numpy>=1.2.
func condaName(spec string) string {
	if _, rest, ok := strings.Cut(spec, "::"); ok {
		spec = rest
	}
	return strings.ToLower(regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*`).FindString(strings.TrimSpace(spec)))
}

// condaPin is the X.Y that a spec of python fixes, in any of conda's
// spellings; empty when it leaves a choice.
func condaPin(spec string) string {
	if _, rest, ok := strings.Cut(spec, "::"); ok {
		spec = rest
	}
	m := regexp.MustCompile(`(?i)^\s*python\s*(?:\[version=['"]?)?(=+|~=|\s)\s*(\d+\.\d+)((?:\.\d+|\.\*|\*)*)`).FindStringSubmatch(spec)
	if m == nil || strings.ContainsAny(spec, "<>|!,") || (m[1] == "~=" && m[3] == "") {
		return "" // ~=3.9 allows every later Python 3
	}
	return m[2]
}

func yamlLine(err error) int {
	m := regexp.MustCompile(`line (\d+)`).FindStringSubmatch(err.Error())
	if m == nil {
		return 0
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		return 0
	}
	return n
}
