
func TestAskedPackage(t *testing.T) {
	r, err := recipe.Read(repo(map[string]string{"requirements.txt": "numpy\n", "index.ipynb": "{}"}), recipe.Options{Interface: "voila"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"Python and Jupyter", "wheels: requirements.txt", "pip: requirements.txt", "Voilà"}, steps(r)); diff != "" {
		t.Errorf("steps (-want +have):\n%s", diff)
	}
	step := r.Steps[len(r.Steps)-1]
	if step.Lock == nil || step.Branch != "python" || len(step.Caches) > 0 {
		t.Errorf("it is installed beside what the repository chose: %+v", step)
	}
}
