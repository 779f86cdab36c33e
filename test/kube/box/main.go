// Command box is what runs in the containers of the cluster's own tests: small,
// static, and alone in its image.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

const usage = `usage:
  box wait                  sleep until SIGTERM
  box serve ADDRESS TEXT    answer HTTP with TEXT
  box get URL               print what URL answers; fail after 3 s
  box dial ADDRESS          connect with TCP; fail after 3 s
  box lookup NAME           print the addresses of a name
  box eat MEGABYTES         use memory, then wait
  box fill FILE MEGABYTES   write a file, then wait
`

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "box:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	const patience = 3 * time.Second
	switch command := strings.Join(args[:min(1, len(args))], ""); {
	case command == "wait" || command == "": // the sandbox of a pod gives no argument
		wait()
		return nil
	case command == "serve" && len(args) == 3:
		go wait() // as process 1 it has to end itself
		return http.ListenAndServe(args[1], http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, args[2])
		}))
	case command == "get" && len(args) == 2:
		client := http.Client{Timeout: patience}
		resp, err := client.Get(args[1])
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		_, err = io.Copy(os.Stdout, resp.Body)
		return err
	case command == "dial" && len(args) == 2:
		conn, err := net.DialTimeout("tcp", args[1], patience)
		if err != nil {
			return err
		}
		fmt.Println("connected to", conn.RemoteAddr())
		return conn.Close()
	case command == "lookup" && len(args) == 2:
		addrs, err := net.LookupHost(args[1])
		fmt.Println(strings.Join(addrs, "\n"))
		return err
	case command == "eat" && len(args) == 2:
		return eat(args[1])
	case command == "fill" && len(args) == 3:
		return fill(args[1], args[2])
	}
	fmt.Fprint(os.Stderr, usage)
	os.Exit(2)
	return nil
}

func wait() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM, syscall.SIGINT)
	<-c
	os.Exit(0)
}

func eat(count string) error {
	var n int
	if _, err := fmt.Sscan(count, &n); err != nil {
		return err
	}
	var kept [][]byte
	for range n {
		b := make([]byte, 1<<20)
		for i := range b {
			b[i] = 1
		}
		kept = append(kept, b)
	}
	fmt.Println("ate", len(kept), "MB")
	wait()
	return nil
}

func fill(path, count string) error {
	var n int
	if _, err := fmt.Sscan(count, &n); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	block := make([]byte, 1<<20)
	for range n {
		if _, err := f.Write(block); err != nil {
			return err
		}
	}
	fmt.Println("wrote", n, "MB")
	wait()
	return f.Close()
}
