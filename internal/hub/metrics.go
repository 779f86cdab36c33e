package hub

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/binnacle-hub/binnacle"
)

// maxRepos bounds the repositories that get a series of their own; the rest
// counts as "other". BinderHub has no bound and its memory pays for it.
const maxRepos = 200

// metrics holds BinderHub's names, which dashboards query, and our own, which
// can also see what takes less than two seconds.
type metrics struct {
	handler http.Handler

	buildTime, launchTime      *prometheus.HistogramVec
	buildCount, launchCount    *prometheus.CounterVec
	building, launching        prometheus.Gauge
	launchSeconds, phaseLength *prometheus.HistogramVec
	requests                   *prometheus.CounterVec

	mu    sync.Mutex
	repos map[string]bool
}

// Metric is one of another part.
type Metric struct {
	Name, Help string
	// Gauge is one that falls, too; the others only grow.
	Gauge bool
	Value func() float64
}

func (m Metric) collector() prometheus.Collector {
	if m.Gauge {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: m.Name, Help: m.Help}, m.Value)
	}
	return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: m.Name, Help: m.Help}, m.Value)
}

func newMetrics(s Sessions, others []Metric) *metrics {
	fine := []float64{.01, .025, .05, .1, .25, .5, 1, 2, 3, 5, 10, 20, 30, 60, 120, 300, 600, 1800}
	vec := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	}
	count := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	m := &metrics{
		buildTime:     vec("binderhub_build_time_seconds", "Time to build an image.", []float64{60, 120, 300, 600, 1800, 3600, 7200}, "status"),
		launchTime:    vec("binderhub_launch_time_seconds", "Time to launch a server.", []float64{2, 5, 10, 20, 30, 60, 120, 300, 600}, "status", "retries"),
		buildCount:    count("binderhub_build_count_total", "Builds by repository.", "status", "provider", "repo"),
		launchCount:   count("binderhub_launch_count_total", "Launches by repository.", "status", "provider", "repo"),
		building:      gauge("binderhub_inprogress_builds", "Builds that run."),
		launching:     gauge("binderhub_inprogress_launches", "Launches that run."),
		launchSeconds: vec("binnacle_launch_seconds", "Time from request to ready or failed.", fine, "result", "image"),
		phaseLength:   vec("binnacle_phase_seconds", "Time a launch spends in a phase.", fine, "phase"),
		requests:      count("binnacle_http_requests_total", "Requests to the hub's own addresses.", "route", "method", "status"),
		repos:         map[string]bool{},
	}
	limit := gauge("binderhub_github_rate_limit_remaining", "Binnacle does not ask GitHub's API; always -1.")
	limit.Set(-1)
	reg := prometheus.NewRegistry()
	reg.MustRegister(m.buildTime, m.launchTime, m.buildCount, m.launchCount, m.building, m.launching, m.launchSeconds, m.phaseLength,
		m.requests, limit, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), sessionGauge{s})
	for _, o := range others {
		reg.MustRegister(o.collector())
	}
	m.handler = promhttp.HandlerFor(reg, promhttp.HandlerOpts{})
	return m
}

// running sets what runs now.
func (m *metrics) running(launching, building int) {
	m.launching.Set(float64(launching))
	m.building.Set(float64(building))
}

// ended counts a launch that has come to its end.
func (m *metrics) ended(l binnacle.Launch) {
	result, image := "failure", "found"
	switch l.Phase {
	case binnacle.PhaseReady:
		result = "success"
	case binnacle.PhaseCanceled:
		result = "canceled"
	}
	if slices.ContainsFunc(l.Phases, func(p binnacle.PhaseTime) bool { return p.Phase == binnacle.PhaseBuilding }) {
		image = "built"
	}
	m.launchSeconds.WithLabelValues(result, image).Observe(l.Ended.Sub(l.Created).Seconds())
	for _, p := range l.Phases {
		if !p.Phase.Final() {
			m.phaseLength.WithLabelValues(string(p.Phase)).Observe(float64(p.Millis) / 1000)
		}
	}
	if result == "canceled" {
		return
	}
	provider, repo := m.labels(l)
	for i, p := range l.Phases {
		switch p.Phase {
		case binnacle.PhaseBuilding:
			status := "success"
			if l.Error != nil && l.Error.Code == binnacle.CodeBuildFailed {
				status = "failure"
			}
			m.buildTime.WithLabelValues(status).Observe(float64(p.Millis) / 1000)
			m.buildCount.WithLabelValues(status, provider, repo).Inc()
		case binnacle.PhaseLaunching:
			if i < len(l.Phases)-1 {
				continue // its image was gone, and built again
			}
			retries := "0"
			if result != "success" {
				retries = "-1"
			}
			m.launchTime.WithLabelValues(result, retries).Observe(float64(p.Millis) / 1000)
			m.launchCount.WithLabelValues(result, provider, repo).Inc()
		}
	}
}

func (m *metrics) labels(l binnacle.Launch) (provider, repo string) {
	provider = orDefault(providers[l.Spec.Provider].display, string(l.Spec.Provider))
	repo = l.Spec.Repo
	if l.Revision != nil {
		repo = l.Revision.URL
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.repos[repo] && len(m.repos) >= maxRepos {
		return provider, "other"
	}
	m.repos[repo] = true
	return provider, repo
}

// request counts one answer; status 0 with an error is what the error becomes.
func (m *metrics) request(route, method string, status int, err error) {
	if status == 0 && err != nil {
		status = Status(binnacle.CodeOf(err))
	}
	if status == 0 {
		status = http.StatusOK
	}
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodDelete, http.MethodOptions:
	default:
		method = "other" // a stranger may make methods up
	}
	m.requests.WithLabelValues(route, method, strconv.Itoa(status)).Inc()
}

// sessionGauge asks for the sessions when it is read, so it cannot be wrong.
type sessionGauge struct{ s Sessions }

func (g sessionGauge) desc() *prometheus.Desc {
	return prometheus.NewDesc("binnacle_sessions", "Sessions that run.", nil, nil)
}

// Describe is Prometheus's.
func (g sessionGauge) Describe(ch chan<- *prometheus.Desc) { ch <- g.desc() }

// Collect counts the sessions.
func (g sessionGauge) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second) //nolint:forbidigo // Collect has no context
	defer cancel()
	list, err := g.s.Sessions(ctx, Caller{Trusted: true})
	if err != nil {
		return // one missing figure is better than a scrape without any
	}
	ch <- prometheus.MustNewConstMetric(g.desc(), prometheus.GaugeValue, float64(len(list)))
}
