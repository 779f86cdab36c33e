// Package arch holds the test that keeps the directions of docs/architecture.md.
package arch
