// Package moon knows how long a lunar day is.
package moon

// Day is its length in hours.
const Day = 24.84
