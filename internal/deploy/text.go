package deploy

import (
	"fmt"
	"io"
	"strings"
)

// signs begin the lines of a plan.
func sign(a Action) string {
	return map[Action]string{
		ActionCreate: "+", ActionChange: "~", ActionRepair: "~", ActionWait: "…", ActionDelete: "-", ActionKeep: "=", ActionUse: "=",
	}[a]
}

// WriteText writes the plan for people: every resource, what is done to it and
// what it costs.
func (p Plan) WriteText(w io.Writer) error {
	var b strings.Builder
	kind, name := 0, 0
	for _, s := range p.Steps {
		kind, name = max(kind, len(s.Resource.Kind)), max(name, len(s.Resource.Name))
	}
	counts := map[Action]int{}
	for _, s := range p.Steps {
		counts[s.Action]++
		line := fmt.Sprintf("%s %-6s  %-*s  %-*s", sign(s.Action), s.Action, kind, s.Resource.Kind, name, s.Resource.Name)
		if s.Price != nil && s.Action != ActionDelete {
			line += "  " + s.Price.text()
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
		for _, d := range s.Shown() {
			fmt.Fprintf(&b, "            %s: %s → %s\n", d.Field, orNone(d.From), orNone(d.To))
		}
	}
	for _, r := range p.Foreign {
		fmt.Fprintf(&b, "  not ours, left alone: %s %s\n", r.Kind, r.Name)
	}
	for _, r := range p.Kept {
		fmt.Fprintf(&b, "  stays, because something that is not ours is in it: %s %s\n", r.Kind, r.Name)
	}
	var parts []string
	for _, a := range []Action{ActionCreate, ActionChange, ActionRepair, ActionWait, ActionDelete} {
		if counts[a] > 0 {
			parts = append(parts, fmt.Sprintf("%d to %s", counts[a], a))
		}
	}
	if len(parts) == 0 {
		parts = []string{"Nothing to do: everything is as wanted"}
	}
	fmt.Fprintf(&b, "\n%s.\n", strings.Join(parts, ", "))
	if t, ok := p.Total(); ok {
		fmt.Fprintf(&b, "Idle: %.2f %s per hour, %.0f per month. Full: %.2f per hour, %.0f per month. At list prices.\n",
			t.Idle, t.Currency, t.Idle*HoursPerMonth, t.Full, t.Full*HoursPerMonth)
	}
	if p.PriceNote != "" {
		fmt.Fprintf(&b, "Note: %s\n", p.PriceNote)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (p Price) text() string {
	amount := fmt.Sprintf("%.4f", p.Idle)
	if p.Full != p.Idle {
		amount += fmt.Sprintf(" to %.4f", p.Full)
	}
	return strings.TrimRight(fmt.Sprintf("%s %s/h  %s", amount, p.Currency, p.Of), " ")
}

func orNone(s string) string {
	if s == "" {
		return "(none)"
	}
	return s
}
