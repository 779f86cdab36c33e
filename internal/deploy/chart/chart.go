// Package chart is the Helm chart, carried by the binary. The same files are
// published as an ordinary chart.
package chart

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/loader/archive"
	v2 "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
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

// Refused says why the chart would not be installed with these values, in the chart's
// own words; nil when it would. No cluster is asked.
func Refused(name, namespace string, values map[string]any) error {
	c, err := Load("")
	if err != nil {
		return err
	}
	b, err := json.Marshal(values)
	if err != nil {
		return fmt.Errorf("write the chart's values: %w", err)
	}
	var plain map[string]any
	if err := json.Unmarshal(b, &plain); err != nil {
		return fmt.Errorf("write the chart's values: %w", err)
	}
	all, err := util.ToRenderValues(c, plain, common.ReleaseOptions{Name: name, Namespace: namespace, Revision: 1, IsInstall: true}, common.DefaultCapabilities.Copy())
	if err != nil {
		_, lines, _ := strings.Cut(err.Error(), "\n- ") // of the schema: what it is about is known
		return errors.New("values: " + strings.ReplaceAll(strings.TrimSpace(lines), "\n- ", "; "))
	}
	if _, err = engine.Render(c, all); err != nil {
		text := err.Error()
		if _, said, ok := strings.Cut(text, "execution error at ("); ok { // and where in the chart
			_, text, _ = strings.Cut(said, "): ")
		}
		return errors.New(text)
	}
	return nil
}
