package armtemplate

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Rule is one of Azure's template test kit, in our words. The kit's own program needs
// PowerShell and lists of all of Azure that it keeps.
type Rule struct {
	// Kit is the name of the rule there.
	Kit string
	// Says is what it wants, or why it does not apply: then its check makes sure of that.
	Says  string
	check func(files) []string
}

// files are the two files of a button, as text and as documents.
type files struct {
	text, formText string
	template, form map[string]any
	resources      []any // evaluated, as Azure gets them
}

// Check holds the files of a button against the schemas, the vendor's models and the
// rules, and returns what is wrong, each with the name of the rule. d is the template
// with values for its parameters.
func Check(d *Deployment, text, formText string) []string {
	f := files{text: text, formText: formText}
	var out []string
	note := func(rule string, problems []string) {
		for _, p := range problems {
			out = append(out, rule+": "+p)
		}
	}
	var err error
	if f.template, err = generic(text); err != nil {
		return []string{"JSONFiles-Should-Be-Valid: " + err.Error()}
	}
	if f.form, err = generic(formText); err != nil {
		return []string{"JSONFiles-Should-Be-Valid: " + err.Error()}
	}
	note("schema", schemaProblems(compiledTemplate, f.template))
	note("schema of the form", schemaProblems(compiledForm, f.form))
	evaluated, err := d.evaluated()
	if err != nil {
		note("expressions", []string{err.Error()})
	} else {
		f.resources, _ = evaluated["resources"].([]any)
		shaped := maps.Clone(f.template)
		shaped["resources"] = f.resources
		note("schema, evaluated", schemaProblems(compiledTemplate, shaped))
		note("model", modelProblems(f.resources))
	}
	for _, r := range slices.Concat(TemplateRules(), FormRules()) {
		note(r.Kit, r.check(f))
	}
	return out
}

// each calls f for every key of a document, with the place and the object it is in.
func each(doc any, f func(at, key string, in map[string]any)) { eachAt("", doc, f) }

func eachAt(at string, doc any, f func(at, key string, in map[string]any)) {
	switch v := doc.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			f(at+"/"+key, key, v)
			eachAt(at+"/"+key, v[key], f)
		}
	case []any:
		for i, item := range v {
			eachAt(fmt.Sprintf("%s/%d", at, i), item, f)
		}
	}
}

func object(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}

func str(v any) string {
	s, _ := v.(string)
	return s
}

// secure are the names of the parameters that are secret.
func (f files) secure() []string {
	var out []string
	for name, p := range object(f.template["parameters"]) {
		if strings.HasPrefix(strings.ToLower(str(object(p)["type"])), "secure") {
			out = append(out, name)
		}
	}
	return out
}

// absent is the check of a rule that does not apply: no key and no type that it is
// about is there.
func absent(pattern string) func(files) []string {
	re := regexp.MustCompile(pattern)
	return func(f files) (out []string) {
		each(f.template, func(at, key string, in map[string]any) {
			if re.MatchString(key) || key == "type" && re.MatchString(str(in[key])) {
				out = append(out, at+" makes the rule apply")
			}
		})
		return out
	}
}

// absentInForm is absent for elements of the form.
func absentInForm(pattern string) func(files) []string {
	re := regexp.MustCompile(pattern)
	return func(f files) (out []string) {
		each(f.form, func(at, key string, in map[string]any) {
			if re.MatchString(key) || key == "type" && re.MatchString(str(in[key])) {
				out = append(out, at+" makes the rule apply")
			}
		})
		return out
	}
}

// nowhere is a check that a pattern is not in the template's text.
func nowhere(pattern string) func(files) []string {
	re := regexp.MustCompile(pattern)
	return func(f files) (out []string) {
		for _, found := range re.FindAllString(f.text, -1) {
			out = append(out, "it holds "+found)
		}
		return out
	}
}

// referenced is a check that everything in a section is asked for by a function.
func referenced(section string) func(files) []string {
	return func(f files) (out []string) {
		for name := range object(f.template[section]) {
			if !strings.Contains(f.text, section+"('"+name+"')") {
				out = append(out, name+" is not used")
			}
		}
		return out
	}
}

// blanks finds empty values where they would mean something.
func blanks(text string, may ...string) (out []string) {
	for _, m := range regexp.MustCompile(`"([^"]+)"\s*:\s*(\{\s*\}|\[\s*\]|"\s*"|null)`).FindAllStringSubmatch(text, -1) {
		if !slices.Contains(may, m[1]) && !strings.HasPrefix(m[1], "[") {
			out = append(out, m[1]+" is empty")
		}
	}
	return out
}

// TemplateRules are those for the template.
func TemplateRules() []Rule {
	return slices.Concat(documentRules(), placeRules(), textRules(), outputRules(), versionRules(), otherRules())
}

func documentRules() []Rule {
	none := func(files) []string { return nil }
	return []Rule{
		{"JSONFiles-Should-Be-Valid", "Both files are JSON.", none /* Check has read them */},
		{"DeploymentTemplate-Schema-Is-Correct", "The schema is that of a resource group's template, by https, of 2019-04-01.", func(f files) (out []string) {
			if str(f.template["$schema"]) != "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#" {
				out = append(out, fmt.Sprintf("it is %v", f.template["$schema"]))
			}
			return out
		}},
		{"Parameters-Property-Must-Exist", "There are parameters.", func(f files) (out []string) {
			if f.template["parameters"] == nil {
				out = append(out, "there are none")
			}
			return out
		}},
		{"Parameters-Must-Be-Referenced", "Every parameter is used.", referenced("parameters")},
		{"Variables-Must-Be-Referenced", "Every variable is used.", referenced("variables")},
		{"Password-params-must-be-secure", "What is called password, secret or key is secure.", func(f files) (out []string) {
			for name := range object(f.template["parameters"]) {
				if regexp.MustCompile(`(?i)password|secret|accountkey|token`).MatchString(name) && !slices.Contains(f.secure(), name) {
					out = append(out, name+" is not secure")
				}
			}
			return out
		}},
		{"Secure-String-Parameters-Cannot-Have-Default", "A secret has no default but the empty one, or one that is new each time.", func(f files) (out []string) {
			for _, name := range f.secure() {
				if d := object(object(f.template["parameters"])[name])["defaultValue"]; d != nil && d != "" && !strings.Contains(str(d), "newGuid(") {
					out = append(out, name+" has a default")
				}
			}
			return out
		}},
		{"Min-And-Max-Value-Are-Numbers", "Bounds are numbers, not texts.", func(f files) (out []string) {
			each(f.template["parameters"], func(at, key string, in map[string]any) {
				if _, text := in[key].(string); text && regexp.MustCompile(`^(min|max)(Value|Length)$`).MatchString(key) {
					out = append(out, at+" is a text")
				}
			})
			return out
		}},
	}
}

func placeRules() []Rule {
	return []Rule{
		{"Location-Should-Not-Be-Hardcoded", "The parameter location is the resource group's unless said otherwise, and nobody else asks for that.", func(f files) (out []string) {
			l := object(object(f.template["parameters"])["location"])
			if l["type"] != "string" || l["defaultValue"] != "[resourceGroup().location]" {
				out = append(out, fmt.Sprintf("location is %v", l))
			}
			if n := len(regexp.MustCompile(`(?i)(resourceGroup|deployment)\(\)\.location`).FindAllString(f.text, -1)); n != 1 {
				out = append(out, fmt.Sprintf("the group's location is asked for %d times", n))
			}
			return out
		}},
		{"Resources-Should-Have-Location", "Each resource is where the parameter location says; role assignments are nowhere.", func(f files) (out []string) {
			for _, r := range list(f.template["resources"]) {
				want := any("[parameters('location')]")
				if object(r)["type"] == "Microsoft.Authorization/roleAssignments" {
					want = nil
				}
				if object(r)["location"] != want {
					out = append(out, fmt.Sprintf("%v is in %v", object(r)["type"], object(r)["location"]))
				}
			}
			return out
		}},
		{"Resources-Should-Not-Be-Ambiguous", "resourceId() without a group names resources of this template, which have no condition.", func(f files) (out []string) {
			for _, m := range regexp.MustCompile(`\bresourceId\('([^']+)'`).FindAllStringSubmatch(f.text, -1) {
				i := slices.IndexFunc(list(f.template["resources"]), func(r any) bool { return object(r)["type"] == m[1] })
				if i < 0 || object(list(f.template["resources"])[i])["condition"] != nil {
					out = append(out, m[1]+" is not surely in this template")
				}
			}
			return out
		}},
		{"ResourceIds-should-not-contain", "Ids are not glued together, and say nothing that is the default.", nowhere(`(?i)\b(?:\w*resourceId|reference|list\w+)\s*\(\s*(?:concat|resourceGroup|subscription)\s*\(`)},
		{"IDs-Should-Be-Derived-From-ResourceIDs", "What is called id comes from resourceId() or reference().", func(f files) (out []string) {
			each(f.template["resources"], func(at, key string, in map[string]any) {
				text := str(in[key])
				if strings.HasSuffix(strings.ToLower(key), "id") && text != "" && !regexp.MustCompile(`^\[(extensionResourceId|resourceId|subscriptionResourceId|tenantResourceId|if|parameters|reference|variables|subscription|guid)\(`).MatchString(text) {
					out = append(out, at+" is "+text)
				}
			})
			if strings.Contains(f.text, `"/subscriptions/`) || strings.Contains(f.text, "/providers/") {
				out = append(out, "an id is written by hand")
			}
			return out
		}},
	}
}

func textRules() []Rule {
	return []Rule{
		{"Template-Should-Not-Contain-Blanks", "Nothing is empty that would mean something empty.", func(f files) []string {
			return blanks(f.text, "resources", "outputs", "variables", "parameters", "functions", "properties", "defaultValue", "value")
		}},
		{"DependsOn-Best-Practices", "What a resource waits for is an id, not glued together.", dependsOn(`(?i)^\s*\[\s*concat\s*\(`)},
		{"DependsOn-Must-Not-Be-Conditional", "What a resource waits for depends on nothing.", dependsOn(`(?i)^\s*\[\s*if\s*\(`)},
		{"DeploymentTemplate-Must-Not-Contain-Hardcoded-Uri", "Addresses of a cloud come from environment(), so that national clouds work.", func(f files) []string {
			text := strings.Replace(f.text, str(f.template["$schema"]), "", 1)
			return regexp.MustCompile(`(?i)[a-z0-9.-]*\.(azure|windows|microsoft\w*|azure-\w+|cloudapi)\.(com|net|cn|us|de)`).FindAllString(text, -1)
		}},
		{"URIs-Should-Be-Properly-Constructed", "What is called uri or url is not glued together.", func(f files) (out []string) {
			each(f.template, func(at, key string, in map[string]any) {
				if regexp.MustCompile(`(?i)ur[il]$`).MatchString(key) && regexp.MustCompile(`(?i)\b(format|concat)\s*\(`).MatchString(str(in[key])) {
					out = append(out, at)
				}
			})
			return out
		}},
		{"Dynamic-Variable-References-Should-Not-Use-Concat", "Which variable is meant stands in the text.", nowhere(`(?i)\bvariables\(\s*concat\(`)},
	}
}

func outputRules() []Rule {
	return []Rule{
		{"Expressions-May-Not-Be-Used-As-Parameter-Or-Variable-Names", "Names of parameters, variables and outputs are names.", func(f files) (out []string) {
			for _, section := range []string{"parameters", "variables", "outputs"} {
				for name := range object(f.template[section]) {
					if strings.Contains(name, "[") {
						out = append(out, name)
					}
				}
			}
			return out
		}},
		{"Outputs-Must-Not-Contain-Secrets", "Outputs hold no secure parameter and list nothing.", func(f files) (out []string) {
			each(f.template["outputs"], func(at, key string, in map[string]any) {
				text := str(in[key])
				if regexp.MustCompile(`(?i)\blist\w*\s*\(`).MatchString(text) || strings.Contains(strings.ToLower(key), "password") {
					out = append(out, at)
				}
				for _, name := range f.secure() {
					if strings.Contains(text, "parameters('"+name+"')") {
						out = append(out, at+" holds "+name)
					}
				}
			})
			return out
		}},
	}
}

func versionRules() []Rule {
	return []Rule{
		{"apiVersions-Should-Be-Recent", "No version is a preview or older than what the vendor's library for Go speaks. (The kit wants none older than two years unless it is the last; it has a list of all.)", func(f files) []string {
			return versionProblems(list(f.template["resources"]))
		}},
		{"apiVersions-Should-Be-Recent-In-Reference-Functions", "reference() asks with the version that the resource is made with.", func(f files) (out []string) {
			for _, m := range regexp.MustCompile(`\breference\(resourceId\('([^']+)'.*?, '(\d{4}-[^']+)'\)`).FindAllStringSubmatch(f.text, -1) {
				for _, r := range list(f.template["resources"]) {
					if object(r)["type"] == m[1] && object(r)["apiVersion"] != m[2] {
						out = append(out, fmt.Sprintf("%s is asked as of %s and made as of %v", m[1], m[2], object(r)["apiVersion"]))
					}
				}
			}
			return out
		}},
		{"Reference-Function-Must-Not-Use-Preview-ApiVersion", "reference() asks with no preview.", nowhere(`(?i)\breference\([^"]*-preview'`)},
		{"providers_apiVersions-Is-Not-Permitted", "Versions are written down, not asked for.", nowhere(`(?i)\bproviders\s*\(`)},
	}
}

// otherRules do not apply: each makes sure of that.
func otherRules() []Rule {
	return []Rule{
		{"Deployment-Resources-Must-Not-Be-Debug", "Does not apply: no template within this one.", absent(`(?i)^debugSetting$|^Microsoft\.Resources/deployments$`)},
		{"Parameter-Types-Should-Be-Consistent", "Does not apply: no template within this one.", absent(`(?i)^Microsoft\.Resources/deployments$`)},
		{"Secure-Params-In-Nested-Deployments", "Does not apply: no template within this one.", absent(`(?i)^Microsoft\.Resources/deployments$`)},
		{"External-Links-Must-Reference-ArtifactsLocation", "Does not apply: everything is in the one file.", absent(`(?i)^(templateLink|primaryScriptUri|supportingScriptUris|scriptUri|fileUris)$`)},
		{"artifacts-parameter", "Does not apply: everything is in the one file.", absent(`(?i)^_artifactsLocation`)},
		{"CommandToExecute-Must-Use-ProtectedSettings-For-Secrets", "Does not apply: no machine, so no extension of one.", absent(`(?i)^commandToExecute$`)},
		{"ManagedIdentityExtension-must-not-be-used", "Does not apply: no machine, so no extension of one.", absent(`(?i)/extensions$|ManagedIdentityExtensionFor`)},
		{"adminUsername-Should-Not-Be-A-Literal", "Does not apply: no machine, so no user of one.", absent(`(?i)^adminUsername$`)},
		{"adminPassword-Should-Not-Be-A-Literal", "Does not apply: no machine, so no user of one.", absent(`(?i)^adminPassword$`)},
		{"VM-Images-Should-Use-Latest-Version", "Does not apply: no machine.", absent(`(?i)^imageReference$`)},
		{"VM-Size-Should-Be-A-Parameter", "Does not apply: no machine. The nodes' type is the parameter machineSize.", absent(`(?i)^vmSize$`)},
		{"Virtual-Machines-Should-Not-Be-Preview", "Does not apply: no machine.", absent(`(?i)^Microsoft\.Compute/virtualMachine`)},
	}
}

func dependsOn(pattern string) func(files) []string {
	re := regexp.MustCompile(pattern)
	return func(f files) (out []string) {
		for _, r := range list(f.template["resources"]) {
			for _, d := range list(object(r)["dependsOn"]) {
				if re.MatchString(str(d)) {
					out = append(out, fmt.Sprintf("%v waits for %v", object(r)["type"], d))
				}
			}
		}
		return out
	}
}
