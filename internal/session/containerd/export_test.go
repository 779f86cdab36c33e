package containerd

// For tests without containers.
var (
	Command     = command
	Environment = environment
)
