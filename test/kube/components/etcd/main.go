// Command etcd is etcd's server: its own main package is in a module that
// others can't build.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
