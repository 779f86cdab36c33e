package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/binnacle-hub/binnacle/test/condachannel"
	"github.com/binnacle-hub/binnacle/test/cran"
	"github.com/binnacle-hub/binnacle/test/farhost"
	"github.com/binnacle-hub/binnacle/test/juliaserver"
)

// servers are the tests' own of conda, CRAN and Julia, whose public ones a machine may
// not reach: few packages, on a host in a network namespace of this machine. So what
// is measured is the work, not the network.
type servers struct {
	config  string            // what the hub is told of them
	missing map[string]string // ecosystems that can't be measured, and why
	far     *farhost.Host
	cran    *cran.Server
	rest    *http.Server
	done    chan error
}

func startServers(ctx context.Context) (*servers, error) {
	far, err := farhost.New()
	if err != nil {
		return nil, fmt.Errorf("make a far host: %w", err)
	}
	s := &servers{far: far, missing: map[string]string{}, done: make(chan error, 1)}
	var ports [2]net.Listener
	for i := range ports {
		if ports[i], err = far.Listen(); err != nil {
			return nil, errors.Join(err, far.Close())
		}
	}
	s.cran = cran.Start(ports[0], cran.Examples()...)
	mux := http.NewServeMux()
	if channel, err := condachannel.Course(ctx); err != nil {
		s.missing["conda"] = err.Error()
	} else {
		mux.Handle("/conda/", http.StripPrefix("/conda", condachannel.Serve(channel)))
	}
	if julia, err := juliaserver.Example(ctx); err != nil {
		s.missing["julia"] = err.Error()
	} else {
		mux.Handle("/", julia)
	}
	s.rest = &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	go func() { s.done <- s.rest.Serve(ports[1]) }()
	s.config = fmt.Sprintf("network: {allow: [%s]}\nmirrors: {cran: %q, julia: %[3]q, julia_releases: \"%[3]s/bin\", conda: \"%[3]s/conda\"}\n", far.Network(), s.cran.URL, "http://"+ports[1].Addr().String())
	return s, nil
}

func (s *servers) close() error {
	s.cran.Close()
	err := s.rest.Close()
	if ended := <-s.done; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return errors.Join(err, s.far.Close())
}
