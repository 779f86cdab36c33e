package condachannel

import (
	"archive/zip"
	"bufio"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"
)

// FromWheel makes a package of a wheel: the same files, and commands for its console
// scripts. A pure one is for every platform, one that is compiled for this machine's
// and for the Python that it is of.
func FromWheel(file string) (Package, error) {
	z, err := zip.OpenReader(file)
	if err != nil {
		return Package{}, err
	}
	defer z.Close()
	p, site := Package{Python: true, Depends: []string{"python"}, Files: map[string]string{}}, "site-packages/"
	if m := regexp.MustCompile(`-cp3(\d+)-`).FindStringSubmatch(path.Base(file)); m != nil {
		p.Python, p.Subdir, p.Depends, site = false, Subdir(), []string{"python 3." + m[1] + ".*"}, "lib/python3."+m[1]+"/site-packages/"
	}
	for _, f := range z.File {
		if f.FileInfo().IsDir() {
			continue
		}
		body, err := contents(f)
		if err != nil {
			return Package{}, fmt.Errorf("read %s of %s: %w", f.Name, file, err)
		}
		dir, base := path.Split(f.Name)
		if strings.HasSuffix(dir, ".dist-info/") && base == "entry_points.txt" {
			p.EntryPoints = scripts(body)
		}
		if strings.HasSuffix(dir, ".dist-info/") && base == "METADATA" {
			p.Name, p.Version, _ = strings.Cut(strings.TrimSuffix(dir, ".dist-info/"), "-")
			p.Name = strings.ReplaceAll(strings.ToLower(p.Name), "_", "-")
		}
		p.Files[site+f.Name] = body
	}
	if p.Name == "" {
		return Package{}, fmt.Errorf("%s is no wheel", file)
	}
	return p, nil
}

func contents(f *zip.File) (string, error) {
	r, err := f.Open()
	if err != nil {
		return "", err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	return string(b), err
}

// scripts are the commands of an entry_points.txt.
func scripts(text string) []string {
	var out []string
	wanted := false
	s := bufio.NewScanner(strings.NewReader(text))
	for s.Scan() {
		line := strings.TrimSpace(s.Text())
		switch {
		case strings.HasPrefix(line, "["):
			wanted = line == "[console_scripts]"
		case wanted && strings.Contains(line, "="):
			out = append(out, line)
		}
	}
	return out
}
