// Package binnacle holds the words every part of Binnacle shares: [Spec],
// [Revision], [Launch], [Phase], [Event], [Session], [Limits] and [Error]. It
// imports only the standard library and does no input or output.
//
// The way of a launch is Spec (what a link says) → [Revision] (what does not
// move) → recipe (what it needs) → image → [Session] (a running Jupyter
// server). What happens on the way is told as a numbered list of Events.
package binnacle
