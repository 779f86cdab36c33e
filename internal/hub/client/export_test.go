package client

import "time"

// WithSilence shortens the time after which a silent hub is asked anew.
func (c *Client) WithSilence(d time.Duration) *Client {
	c.silence = d
	return c
}
