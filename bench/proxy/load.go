package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"
)

// order is what the load process is asked to do, one JSON line each.
type order struct {
	Kind     string        `json:"kind"` // get, cell or idle
	Address  string        `json:"address"`
	Path     string        `json:"path"`
	Conns    int           `json:"conns"`
	Duration time.Duration `json:"duration"`
}

// outcome is its answer. Milliseconds.
type outcome struct {
	Requests  int     `json:"requests"`
	PerSecond float64 `json:"per_second"`
	P50       float64 `json:"p50_ms"`
	P99       float64 `json:"p99_ms"`
	Error     string  `json:"error,omitempty"`
}

// runLoad carries out orders. Idle WebSockets stay open until the next order.
func runLoad(ctx context.Context, in io.Reader, out io.Writer) error {
	var open []net.Conn
	lines := json.NewDecoder(in)
	for {
		var o order
		if err := lines.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		for _, c := range open {
			_ = c.Close()
		}
		open = nil
		var done outcome
		var err error
		switch o.Kind {
		case "idle":
			open, err = openIdle(ctx, o)
		case "cell":
			done, err = runCells(ctx, o)
		default:
			done, err = runGets(ctx, o)
		}
		if err != nil {
			done.Error = err.Error()
		}
		if err := json.NewEncoder(out).Encode(done); err != nil {
			return err
		}
	}
}

func dialTCP(ctx context.Context, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", address)
}

// runGets keeps one request under way on each connection.
func runGets(ctx context.Context, o order) (outcome, error) {
	request := []byte("GET " + o.Path + " HTTP/1.1\r\nHost: " + o.Address +
		"\r\nUser-Agent: bench\r\nAccept: */*\r\nCookie: session=0123456789abcdef0123456789abcdef; _xsrf=2|aa|bb|1\r\n\r\n")
	var mu sync.Mutex
	var all []time.Duration
	var failed error
	var wg sync.WaitGroup
	start := time.Now()
	end := start.Add(o.Duration)
	for range o.Conns {
		wg.Go(func() {
			took, err := getUntil(ctx, o.Address, request, end)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, took...)
			failed = errors.Join(failed, err)
		})
	}
	wg.Wait()
	return summary(all, time.Since(start)), failed
}

func getUntil(ctx context.Context, address string, request []byte, end time.Time) ([]time.Duration, error) {
	c, err := dialTCP(ctx, address)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	_ = c.SetDeadline(end.Add(10 * time.Second))
	br := bufio.NewReaderSize(c, 64<<10)
	var took []time.Duration
	for now := time.Now(); now.Before(end); {
		if _, err := c.Write(request); err != nil {
			return took, err
		}
		head, err := readHead(br)
		if err != nil {
			return took, err
		}
		n, err := bodyLength(head)
		if err != nil {
			return took, err
		}
		if _, err := br.Discard(n); err != nil {
			return took, err
		}
		next := time.Now()
		took = append(took, next.Sub(now))
		now = next
	}
	return took, nil
}

// bodyLength wants a 200 with a Content-Length, as the backend gives.
func bodyLength(head []byte) (int, error) {
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 200")) {
		return 0, fmt.Errorf("got %q", head[:min(len(head), 60)])
	}
	const name = "ontent-"
	for at := 0; ; {
		i := bytes.Index(head[at:], []byte(name))
		if i < 0 {
			return 0, errors.New("an answer has no Content-Length")
		}
		at += i + len(name)
		line, _, _ := bytes.Cut(head[at:], []byte("\r\n"))
		if value, ok := bytes.CutPrefix(line[1:], []byte("ength: ")); ok {
			return strconv.Atoi(string(value))
		}
	}
}

func summary(took []time.Duration, wall time.Duration) outcome {
	if len(took) == 0 {
		return outcome{}
	}
	slices.Sort(took)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return outcome{
		Requests:  len(took),
		PerSecond: float64(len(took)) / wall.Seconds(),
		P50:       ms(took[len(took)/2]),
		P99:       ms(took[len(took)*99/100]),
	}
}

// connect opens a WebSocket.
func connect(ctx context.Context, address, path string) (net.Conn, *bufio.Reader, error) {
	c, err := dialTCP(ctx, address)
	if err != nil {
		return nil, nil, err
	}
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	br := bufio.NewReaderSize(c, 1<<10)
	_, err = io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: "+address+"\r\nUser-Agent: bench\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	if err == nil {
		var head []byte
		head, err = readHead(br)
		if err == nil && !bytes.HasPrefix(head, []byte("HTTP/1.1 101")) {
			err = fmt.Errorf("got %q", head[:min(len(head), 60)])
		}
	}
	if err != nil {
		_ = c.Close()
		return nil, nil, err
	}
	return c, br, nil
}

// message is a frame of the client: binary, masked with zeros.
func message() []byte {
	return append([]byte{0x82, 0x80 | frameSize, 0, 0, 0, 0}, make([]byte, frameSize)...)
}

// openIdle opens WebSockets, each of which has carried one message.
func openIdle(ctx context.Context, o order) ([]net.Conn, error) {
	var open []net.Conn
	for range o.Conns {
		c, br, err := connect(ctx, o.Address, o.Path)
		if err != nil {
			return open, err
		}
		open = append(open, c)
		if _, err := c.Write(message()); err != nil {
			return open, err
		}
		if _, err := br.Discard(2 + frameSize); err != nil {
			return open, err
		}
		_ = c.SetDeadline(time.Time{})
	}
	return open, nil
}

// runCells sends a message on each connection and waits for all that a cell
// answers; or, on the echo path, for one.
func runCells(ctx context.Context, o order) (outcome, error) {
	answers := 1
	if bytes.HasSuffix([]byte(o.Path), []byte("cell")) {
		answers = cellMessages
	}
	var mu sync.Mutex
	var all []time.Duration
	var failed error
	var wg sync.WaitGroup
	start := time.Now()
	end := start.Add(o.Duration)
	for range o.Conns {
		wg.Go(func() {
			took, err := talkUntil(ctx, o, answers, end)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, took...)
			failed = errors.Join(failed, err)
		})
	}
	wg.Wait()
	return summary(all, time.Since(start)), failed
}

func talkUntil(ctx context.Context, o order, answers int, end time.Time) ([]time.Duration, error) {
	c, br, err := connect(ctx, o.Address, o.Path)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	_ = c.SetDeadline(end.Add(10 * time.Second))
	var took []time.Duration
	m := message()
	for now := time.Now(); now.Before(end); {
		if _, err := c.Write(m); err != nil {
			return took, err
		}
		if _, err := br.Discard(answers * (2 + frameSize)); err != nil {
			return took, err
		}
		next := time.Now()
		took = append(took, next.Sub(now))
		now = next
	}
	return took, nil
}
