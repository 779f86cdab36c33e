package armtemplate

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// elements are those of the form, by how outputs name them.
func (f files) elements() map[string]map[string]any {
	out := map[string]map[string]any{}
	p := object(f.form["parameters"])
	for _, e := range list(p["basics"]) {
		out["basics('"+str(object(e)["name"])+"')"] = object(e)
	}
	for _, s := range list(p["steps"]) {
		for _, e := range list(object(s)["elements"]) {
			out["steps('"+str(object(s)["name"])+"')."+str(object(e)["name"])] = object(e)
		}
	}
	return out
}

// outputs are those of the form.
func (f files) outputs() map[string]any { return object(object(f.form["parameters"])["outputs"]) }

// source is which element an output comes from, and the function around it.
func source(output any) (element, function string) {
	m := regexp.MustCompile(`^\[(?:(\w+)\()?((?:basics|steps)\('\w+'\)(?:\.\w+)?|location\(\))\)?\]$`).FindStringSubmatch(str(output))
	if m == nil {
		return str(output), ""
	}
	return m[2], m[1]
}

// ofType is a check of the elements of a type.
func ofType(typ string, check func(e map[string]any) string) func(files) []string {
	return func(f files) (out []string) {
		for name, e := range f.elements() {
			if strings.EqualFold(str(e["type"]), typ) {
				if problem := check(e); problem != "" {
					out = append(out, name+" "+problem)
				}
			}
		}
		return out
	}
}

// FormRules are those for the form.
func FormRules() []Rule {
	return slices.Concat(formRules(), connectionRules(), elementRules())
}

func formRules() []Rule {
	return []Rule{
		{"CreateUIDefinition-Should-Have-Schema", "The schema is that of the handler's version.", func(f files) (out []string) {
			if want := "/schemas/" + str(f.form["version"]) + "/CreateUIDefinition.MultiVm.json#"; !strings.HasSuffix(str(f.form["$schema"]), want) {
				out = append(out, str(f.form["$schema"]))
			}
			return out
		}},
		{"Handler-Must-Be-Correct", "The handler is the one for templates.", func(f files) (out []string) {
			if f.form["handler"] != "Microsoft.Azure.CreateUIDef" {
				out = append(out, str(f.form["handler"]))
			}
			return out
		}},
		{"CreateUIDefinition-Must-Have-Parameters", "There are parameters with outputs.", func(f files) (out []string) {
			if len(f.outputs()) == 0 {
				out = append(out, "there are none")
			}
			return out
		}},
		{"CreateUIDefinition-Must-Not-Have-Blanks", "Nothing is empty that would mean something empty.", func(f files) []string {
			return blanks(f.formText, "basics", "defaultValue", "steps")
		}},
	}
}

func connectionRules() []Rule {
	return []Rule{
		{"Controls-In-Outputs-Must-Exist", "Every output comes from an element, and every element goes into one.", func(f files) (out []string) {
			used := map[string]bool{}
			for name, o := range f.outputs() {
				from, _ := source(o)
				if _, there := f.elements()[from]; !there && from != "location()" {
					out = append(out, name+" comes from "+from)
				}
				used[from] = true
			}
			for name := range f.elements() {
				if !used[name] {
					out = append(out, name+" is asked for nothing")
				}
			}
			return out
		}},
		{"Outputs-Must-Be-Present-In-Template-Parameters", "Every output is a parameter of the template, of its type.", func(f files) (out []string) {
			for name, o := range f.outputs() {
				p := object(object(f.template["parameters"])[name])
				_, function := source(o)
				if p == nil || p["type"] == "int" != (function == "int") || p["type"] == "bool" {
					out = append(out, fmt.Sprintf("%s is %v", name, p["type"]))
				}
			}
			return out
		}},
		{"Parameters-Without-Default-Must-Exist-In-CreateUIDefinition", "What has no default is asked for.", func(f files) (out []string) {
			for name, p := range object(f.template["parameters"]) {
				if _, asked := f.outputs()[name]; !asked && object(p)["defaultValue"] == nil {
					out = append(out, name)
				}
			}
			return out
		}},
		{"Location-Should-Be-In-Outputs", "The region that is chosen is used.", func(f files) (out []string) {
			if f.outputs()["location"] != "[location()]" {
				out = append(out, fmt.Sprint(f.outputs()["location"]))
			}
			return out
		}},
		{"Allowed-Values-Should-Actually-Be-Allowed", "Every choice, and the default of the template, is allowed by both.", allowedByBoth},
		{"Password-Textboxes-Must-Be-Used-For-Password-Parameters", "Secrets are typed where they are not shown, and nothing else is.", func(f files) (out []string) {
			for name, o := range f.outputs() {
				from, _ := source(o)
				if hidden := f.elements()[from]["type"] == "Microsoft.Common.PasswordBox"; hidden != slices.Contains(f.secure(), name) {
					out = append(out, name)
				}
			}
			return out
		}},
	}
}

func elementRules() []Rule {
	return []Rule{
		{"PasswordBoxes-Must-Have-Min-Length", "A secret has 12 characters at least.", ofType("Microsoft.Common.PasswordBox", func(e map[string]any) string {
			m := regexp.MustCompile(`\{(\d+)`).FindStringSubmatch(str(object(e["constraints"])["regex"]))
			if m == nil {
				return "has no least length"
			}
			if n, err := strconv.Atoi(m[1]); err != nil || n < 12 {
				return "may have " + m[1]
			}
			return ""
		})},
		{"Credential-Confirmation-Should-Not-Be-Hidden", "A secret is typed twice.", ofType("Microsoft.Common.PasswordBox", func(e map[string]any) string {
			if hidden := object(e["options"])["hideConfirmation"]; hidden != nil && hidden != false {
				return "is not confirmed"
			}
			return ""
		})},
		{"Textboxes-Are-Well-Formed", "What is typed is held against an expression, and what is wrong is said.", ofType("Microsoft.Common.TextBox", func(e map[string]any) string {
			c := object(e["constraints"])
			if _, err := regexp.Compile(str(c["regex"])); err != nil || c["regex"] == nil || str(c["validationMessage"]) == "" {
				return "is not validated"
			}
			return ""
		})},
		{"Validations-Must-Have-Message", "Each validation says what is wrong.", func(f files) (out []string) {
			each(f.form, func(at, key string, in map[string]any) {
				if (key == "regex" && str(in["validationMessage"]) == "") || (key == "isValid" && str(in["message"]) == "") {
					out = append(out, at)
				}
			})
			return out
		}},
		{"Tooltips-Should-Be-Present", "Each element explains itself.", func(f files) (out []string) {
			for name, e := range f.elements() {
				if strings.TrimSpace(str(e["toolTip"])) == "" {
					out = append(out, name)
				}
			}
			return out
		}},
		{"Usernames-Should-Not-Have-A-Default", "Nobody's name is suggested.", func(f files) (out []string) {
			for name, e := range f.elements() {
				if strings.Contains(strings.ToLower(name), "username") && e["defaultValue"] != nil && e["defaultValue"] != "" {
					out = append(out, name)
				}
			}
			return out
		}},
		{"HideExisting-Must-Be-Correctly-Handled", "Does not apply: no element that chooses what is there.", absentInForm(`(?i)^hideExisting$|Selector$|Combo$`)},
		{"VMSizes-Must-Match-Template", "Does not apply: no element that chooses machine types; the type is typed.", absentInForm(`(?i)^Microsoft\.Compute\.SizeSelector$`)},
	}
}

func allowedByBoth(f files) (out []string) {
	for name, o := range f.outputs() {
		from, function := source(o)
		choices := list(object(f.elements()[from]["constraints"])["allowedValues"])
		if len(choices) == 0 {
			continue
		}
		var offered []string
		for _, c := range choices {
			offered = append(offered, fmt.Sprint(object(c)["value"]))
		}
		p := object(object(f.template["parameters"])[name])
		if allowed := list(p["allowedValues"]); len(allowed) > 0 {
			for _, v := range offered {
				if !slices.ContainsFunc(allowed, func(a any) bool { return fmt.Sprint(a) == v }) {
					out = append(out, name+" offers "+v)
				}
			}
		}
		if d := p["defaultValue"]; d != nil && !slices.Contains(offered, fmt.Sprint(d)) {
			out = append(out, fmt.Sprintf("%s is %v by default and does not offer it", name, d))
		}
		if function == "int" {
			for _, v := range offered {
				if _, err := strconv.Atoi(v); err != nil {
					out = append(out, name+" is no number: "+v)
				}
			}
		}
		labels := slices.ContainsFunc(choices, func(c any) bool { return object(c)["label"] == f.elements()[from]["defaultValue"] })
		if d := f.elements()[from]["defaultValue"]; d != nil && !labels {
			out = append(out, fmt.Sprintf("%s suggests %v, which it does not offer", name, d))
		}
	}
	return out
}
