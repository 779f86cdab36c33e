// Package tides counts them.
package tides

import "example.org/moon"

// PerDay is how many high tides a day has.
func PerDay() float64 { return 2 * 24 / moon.Day }
