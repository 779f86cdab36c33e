package main

import (
	"context"
	"net/url"
	"os"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/binnacle-hub/binnacle"
)

// renderLab opens the session in a fresh Chromium and waits until
// JupyterLab lists the repository's files.
func renderLab(ctx context.Context, l binnacle.Launch) (time.Duration, error) {
	profile, err := os.MkdirTemp("", "chromium")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(profile)
	alloc, cancel := chromedp.NewExecAllocator(ctx, append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.NoSandbox, chromedp.UserDataDir(profile), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true))...)
	defer cancel()
	tab, cancel := chromedp.NewContext(alloc)
	defer cancel()
	tab, cancel = context.WithTimeout(tab, time.Minute)
	defer cancel()
	if err := chromedp.Do(tab, chromedp.Navigate("about:blank")); err != nil { // the browser's own start is not ours
		return 0, err
	}
	start := time.Now()
	if err := chromedp.Do(tab, chromedp.Navigate(l.Session.URL+"lab?token="+url.QueryEscape(l.Session.Token))); err != nil {
		return 0, err
	}
	_, err = chromedp.Run(tab, chromedp.Poll[bool](`document.querySelector(".jp-DirListing-item") !== null`))
	return time.Since(start), err
}
