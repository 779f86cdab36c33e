// Package sizes says how large things are.
package sizes

import "github.com/dustin/go-humanize"

// Of is a number of bytes in words.
func Of(n uint64) string { return humanize.Bytes(n) }
