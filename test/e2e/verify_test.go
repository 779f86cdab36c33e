package e2e_test

import (
	"strings"
	"testing"
	"time"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy/verify"
)

// The verification of a deployment against a real hub: a launch and a cell, each
// phase timed; and a hub that answers while cells fail, which must not pass.
func TestVerify(t *testing.T) {
	repo := the.example(t, "requirements")
	o := verify.Options{Repository: repo.URL, Now: time.Now, Tell: func(p verify.Phase) { t.Log(p.Name, p.Took) }}
	hub := the.public()
	report, err := verify.Run(t.Context(), hub, o)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range report.Phases {
		names = append(names, p.Name)
	}
	if got := strings.Join(names, " "); !strings.HasPrefix(got, "answer ") || !strings.HasSuffix(got, "launching kernel cell") {
		t.Errorf("phases %s", got)
	}
	if report.Version == "" || len(report.Commit) != 40 || report.Total() <= 0 {
		t.Errorf("report %+v", report)
	}
	for code, want := range map[string]string{"1/0": "ZeroDivisionError", "print(41)": `printed "41`} {
		o.Code, o.Want = code, "42"
		_, err := verify.Run(t.Context(), hub, o)
		if binnacle.CodeOf(err) != binnacle.CodeUnavailable || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", code, err)
		}
	}
	if list, err := hub.Sessions(t.Context()); err != nil || len(list) > 0 {
		t.Errorf("sessions are left: %v %v", list, err)
	}
}
