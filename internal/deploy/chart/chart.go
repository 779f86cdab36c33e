// Package chart is the Helm chart, carried by the binary. The same files are
// published as an ordinary chart.
package chart

import (
	"embed"
	"fmt"
	"io/fs"
	"strings"

	"helm.sh/helm/v4/pkg/chart/loader/archive"
	v2 "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
)

// Name of the chart, and of a release that nobody named otherwise.
const Name = "binnacle"

//go:embed all:binnacle
var files embed.FS

// Files are those of the chart: Chart.yaml, values.yaml, templates.
func Files() (fs.FS, error) { return fs.Sub(files, Name) }

// Load reads the chart. A version that is not empty becomes the appVersion,
// which is the tag of the image that is installed when no other is named.
func Load(version string) (*v2.Chart, error) {
	var list []*archive.BufferedFile
	root, err := Files()
	if err != nil {
		return nil, err
	}
	err = fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(root, path)
		list = append(list, &archive.BufferedFile{Name: path, Data: b})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the chart: %w", err)
	}
	c, err := loader.LoadFiles(list)
	if err != nil {
		return nil, fmt.Errorf("read the chart: %w", err)
	}
	if version != "" {
		c.Metadata.AppVersion = strings.ReplaceAll(version, "+", "-") // not in a tag
	}
	return c, nil
}
