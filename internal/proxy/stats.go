package proxy

import "sync/atomic"

// Stats is what the proxy has done since it was made.
type Stats struct {
	Requests       int64 // every request, WebSocket handshakes too
	Failed         int64 // requests answered by a page of ours
	Parked         int64 // requests that wait for a session right now
	WebSockets     int64 // handshakes that succeeded
	OpenWebSockets int64 // open right now
	BytesIn        int64 // bodies and WebSocket data from clients
	BytesOut       int64 // bodies and WebSocket data to clients
}

type counters struct {
	requests, failed, parked       atomic.Int64
	webSockets, openWebSockets     atomic.Int64
	bytesFromClient, bytesToClient atomic.Int64
}

// Stats is a snapshot for metrics.
func (p *Proxy) Stats() Stats {
	return Stats{
		Requests:       p.stats.requests.Load(),
		Failed:         p.stats.failed.Load(),
		Parked:         p.stats.parked.Load(),
		WebSockets:     p.stats.webSockets.Load(),
		OpenWebSockets: p.stats.openWebSockets.Load(),
		BytesIn:        p.stats.bytesFromClient.Load(),
		BytesOut:       p.stats.bytesToClient.Load(),
	}
}
