// Command standin answers where a hub would, for tests of how one is deployed.
package main

import (
	"archive/tar"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"gopkg.in/yaml.v3"
)

// Set by the build.
var version, schema, broken = "1", "1", "false"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	c := struct{ Data, Listen string }{Data: "/var/lib/binnacle"}
	for i, a := range args {
		if a != "--config" {
			continue
		}
		b, err := os.ReadFile(args[i+1])
		if err != nil {
			return err
		}
		if err := yaml.Unmarshal(b, &c); err != nil {
			return err
		}
	}
	switch line := strings.Join(args, " "); {
	case strings.Contains(line, "doctor"):
		fmt.Println(`[{"name":"stand-in","state":"ok","message":"a stand-in of version ` + version + ` looked at the machine"}]`)
	case strings.Contains(line, "build-logs"):
		_, flags, _ := strings.Cut(line, "build-logs ")
		fmt.Println("launch-1 gh/ada/hello/main | stand-in of version", version, "builds, asked with", flags)
		if strings.Contains(flags, "--follow") {
			_, err := io.Copy(io.Discard, os.Stdin)
			return err
		}
	case strings.Contains(line, "snapshot save"):
		return save(c.Data, !strings.Contains(line, "--without-secrets"))
	case strings.Contains(line, "snapshot load"):
		return load(c.Data)
	case strings.Contains(line, "deploy watch"):
		end := make(chan os.Signal, 1)
		signal.Notify(end, syscall.SIGTERM)
		fmt.Fprintln(os.Stderr, "stand-in of version", version, "follows the repository") // it does not
		<-end
	case strings.Contains(line, "serve"):
		return serve(c.Data, c.Listen)
	}
	return nil
}

// serve keeps a database whose header says the form, as SQLite's does.
func serve(data, listen string) error {
	if broken == "true" {
		return errors.New("this version is broken")
	}
	form, err := strconv.ParseUint(schema, 10, 32)
	if err != nil {
		return err
	}
	path := filepath.Join(data, "binnacle.db")
	const header, at = 100, 60
	b, err := os.ReadFile(path)
	if err != nil {
		b = make([]byte, header)
	}
	if have := binary.BigEndian.Uint32(b[at:]); uint64(have) > form {
		return fmt.Errorf("the database was written by a newer version: %d", have)
	}
	binary.BigEndian.PutUint32(b[at:], uint32(form))
	if err := os.WriteFile(path, b, 0o600); err != nil {
		return err
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	if socket := os.Getenv("NOTIFY_SOCKET"); socket != "" {
		c, err := net.Dial("unixgram", strings.Replace(socket, "@", "\x00", 1))
		if err != nil {
			return err
		}
		fmt.Fprint(c, "READY=1")
		_ = c.Close()
	}
	fmt.Fprintln(os.Stderr, "stand-in of version", version, "answers")
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	go func() {
		<-end
		os.Exit(0)
	}()
	return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, version) }))
}

// save writes the file note as if it were the database.
func save(data string, secrets bool) error {
	files := map[string]string{"certificates/key": "the-private-key"}
	if !secrets {
		files = map[string]string{}
	}
	b, err := os.ReadFile(filepath.Join(data, "note"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	files["store.jsonl"] = string(b)
	out := tar.NewWriter(os.Stdout)
	for name, text := range files {
		if err := out.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(text))}); err != nil {
			return err
		}
		if _, err := io.WriteString(out, text); err != nil {
			return err
		}
	}
	return out.Close()
}

// load puts it back.
func load(data string) error {
	in := tar.NewReader(os.Stdin)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		b, err := io.ReadAll(in)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(data, strings.NewReplacer("store.jsonl", "note", "/", "-").Replace(h.Name)), b, 0o600); err != nil {
			return err
		}
	}
}
