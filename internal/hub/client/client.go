// Package client speaks the hub's API, over its unix socket or the network.
// What the hub refuses comes back as a *[binnacle.Error] with the hub's code.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/hub"
)

// maxAnswer bounds what is read of one JSON answer.
const maxAnswer = 64 << 20

// Client calls one hub. Its methods are safe for concurrent use.
type Client struct {
	base    string
	http    *http.Client
	silence time.Duration // after which a stream of events is taken up anew

	mu    sync.Mutex
	token string // who the hub says we are; empty on the unix socket
}

// New makes a client of a hub: an address like https://hub.example.org, or the
// path of its unix socket. It does not connect yet.
func New(address string) (*Client, error) {
	if strings.HasPrefix(address, "http://") || strings.HasPrefix(address, "https://") {
		u, err := url.Parse(address)
		if err != nil || u.Host == "" || u.User != nil {
			return nil, binnacle.Errorf(binnacle.CodeInvalid, "This is not the address of a hub: %q.", address)
		}
		return &Client{base: strings.TrimSuffix(u.String(), "/"), http: &http.Client{}, silence: mostSilence}, nil
	}
	if address == "" {
		return nil, binnacle.Errorf(binnacle.CodeInvalid, "No hub is named.")
	}
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, "unix", address)
	}}
	return &Client{base: "http://hub", http: &http.Client{Transport: transport}, silence: mostSilence}, nil
}

// By lets requests take another way than the usual one.
func (c *Client) By(way http.RoundTripper) *Client {
	c.http.Transport = way
	return c
}

// WithToken makes the client speak for whom the token was given to.
func (c *Client) WithToken(token string) *Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.token = token
	return c
}

// WithHTTP makes the client ask by h, which may know a site's proxy or authorities.
func (c *Client) WithHTTP(h *http.Client) *Client {
	c.http = h
	return c
}

// Token is who the client speaks for; empty until the first launch.
func (c *Client) Token() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.token
}

// Close lets go of idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Launch asks for a running repository; the answer may be a launch of the same
// that is already under way.
func (c *Client) Launch(ctx context.Context, req binnacle.LaunchRequest) (binnacle.Launch, error) {
	return call[binnacle.Launch](ctx, c, http.MethodPost, "/api/launches", req)
}

// Launches lists mine; the operator's are all.
func (c *Client) Launches(ctx context.Context) ([]binnacle.Launch, error) {
	return call[[]binnacle.Launch](ctx, c, http.MethodGet, "/api/launches", nil)
}

// Get returns not_found for a launch that is not there or not mine.
func (c *Client) Get(ctx context.Context, id string) (binnacle.Launch, error) {
	return call[binnacle.Launch](ctx, c, http.MethodGet, "/api/launches/"+url.PathEscape(id), nil)
}

// Cancel ends a launch; its watchers get an end event.
func (c *Client) Cancel(ctx context.Context, id string) error {
	_, err := call[struct{}](ctx, c, http.MethodDelete, "/api/launches/"+url.PathEscape(id), nil)
	return err
}

// LaunchLog copies a launch's log; with follow until it ends.
func (c *Client) LaunchLog(ctx context.Context, id string, follow bool, w io.Writer) error {
	return c.copy(ctx, "/api/launches/"+url.PathEscape(id)+"/log", follow, w)
}

// Resolved tells the exact versions in a launch's image.
func (c *Client) Resolved(ctx context.Context, id string) ([]binnacle.Resolved, error) {
	return call[[]binnacle.Resolved](ctx, c, http.MethodGet, "/api/launches/"+url.PathEscape(id)+"/resolved", nil)
}

// Sessions lists mine; the operator's are all.
func (c *Client) Sessions(ctx context.Context) ([]binnacle.Session, error) {
	return call[[]binnacle.Session](ctx, c, http.MethodGet, "/api/sessions", nil)
}

// Session returns not_found for a session that is not there or not mine.
func (c *Client) Session(ctx context.Context, id string) (binnacle.Session, error) {
	return call[binnacle.Session](ctx, c, http.MethodGet, "/api/sessions/"+url.PathEscape(id), nil)
}

// Stop ends a session; what is in it is gone.
func (c *Client) Stop(ctx context.Context, id string) error {
	_, err := call[struct{}](ctx, c, http.MethodDelete, "/api/sessions/"+url.PathEscape(id), nil)
	return err
}

// KeepAlive begins a session's idle time again.
func (c *Client) KeepAlive(ctx context.Context, id string) (binnacle.Session, error) {
	return call[binnacle.Session](ctx, c, http.MethodPost, "/api/sessions/"+url.PathEscape(id)+"/keep-alive", nil)
}

// Logs copies what a session's server wrote; with follow until it ends.
func (c *Client) Logs(ctx context.Context, id string, follow bool, w io.Writer) error {
	return c.copy(ctx, "/api/sessions/"+url.PathEscape(id)+"/log", follow, w)
}

// Version is the hub's.
func (c *Client) Version(ctx context.Context) (string, error) {
	v, err := call[hub.VersionInfo](ctx, c, http.MethodGet, "/api/version", nil)
	return v.Version, err
}

// Usage tells what takes disk; only over the unix socket.
func (c *Client) Usage(ctx context.Context) (hub.Usage, error) {
	return call[hub.Usage](ctx, c, http.MethodGet, "/api/usage", nil)
}

// Clean frees disk; only over the unix socket.
func (c *Client) Clean(ctx context.Context, req hub.CleanRequest) (hub.CleanReport, error) {
	return call[hub.CleanReport](ctx, c, http.MethodPost, "/api/clean", req)
}

// call sends one request and reads a JSON answer.
func call[T any](ctx context.Context, c *Client, method, path string, body any) (T, error) {
	var out T
	resp, err := c.do(ctx, method, path, "application/json", body)
	if err != nil {
		return out, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNoContent {
		return out, nil
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&out); err != nil {
		return out, broken(ctx, method+" "+path, err)
	}
	return out, nil
}

// do returns a 2xx answer, whose body the caller closes, or an error.
func (c *Client) do(ctx context.Context, method, path, accept string, body any) (*http.Response, error) {
	var r io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		r = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, r)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", accept)
	if token := c.Token(); token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, broken(ctx, method+" "+path, err)
	}
	if token := resp.Header.Get(hub.TokenHeader); token != "" {
		c.WithToken(token)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		defer resp.Body.Close()
		return nil, readError(resp)
	}
	return resp, nil
}

// broken is a call that got no answer: unavailable, or why ctx ended.
func broken(ctx context.Context, op string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", op, context.Cause(ctx))
	}
	return &binnacle.Error{
		Code: binnacle.CodeUnavailable, Op: "hub.client", Message: "The hub does not answer.",
		Hint: "Look whether it runs, and try again.", Err: fmt.Errorf("%s: %w", op, errors.Unwrap(err)),
	}
}

// readError is the hub's error again; an answer of something in between that
// is no error of ours gets its code from the status.
func readError(resp *http.Response) error {
	var e binnacle.Error
	data, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20)) // what is missing shows below
	if err := json.Unmarshal(data, &e); err == nil && e.Code != "" && e.Message != "" {
		return &e
	}
	code := binnacle.CodeInternal
	for _, c := range binnacle.Codes() {
		if hub.Status(c) == resp.StatusCode {
			code = c
		}
	}
	return binnacle.Errorf(code, "The hub answered %s.", resp.Status)
}

func (c *Client) copy(ctx context.Context, path string, follow bool, w io.Writer) error {
	if follow {
		path += "?follow=true"
	}
	resp, err := c.do(ctx, http.MethodGet, path, "text/plain", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err = io.Copy(w, resp.Body); err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
