# The Go kernel, goimports which it calls, and a build cache that holds what
# notebooks import most, so that a first cell does not compile it.
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -q --yes --no-install-recommends golang-go
export HOME=/root GOPATH=/tmp/go GOCACHE=/tmp/cache GOFLAGS=-modcacherw
mkdir -p /tmp/kernel "$out/bin" "$out/cache"
cd /tmp/kernel
cp "$in/gonb.mod" go.mod
cp "$in/gonb.sum" go.sum
go build -trimpath -ldflags=-s -o "$out/bin/" github.com/janpfeifer/gonb golang.org/x/tools/cmd/goimports
mkdir /tmp/warm
cd /tmp/warm
go mod init warm
cat > main.go <<'GO'
package main

import (
	_ "bufio"
	_ "bytes"
	_ "context"
	_ "encoding/csv"
	_ "encoding/json"
	_ "errors"
	_ "flag"
	_ "fmt"
	_ "io"
	_ "log"
	_ "maps"
	_ "math"
	_ "math/big"
	_ "math/rand"
	_ "net/http"
	_ "os"
	_ "path/filepath"
	_ "regexp"
	_ "slices"
	_ "sort"
	_ "strconv"
	_ "strings"
	_ "sync"
	_ "testing"
	_ "time"
)

func main() {}
GO
GOCACHE="$out/cache" go build -o /dev/null .
