package image

// What the tests look at from outside.
var (
	Graph   = graph
	Marshal = marshal
	Slug    = slug
)
