package cli_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"io/fs"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle/internal/cli"
	"github.com/binnacle-hub/binnacle/test/azuresim"
	"github.com/binnacle-hub/binnacle/test/kubesim"
	"github.com/binnacle-hub/binnacle/test/registryhost"
)

// internet is all that a program reaches: the names of the public Azure, which lead to
// a simulator, by a proxy that refuses every other name.
type internet struct {
	*azuresim.Server

	kube    *kubesim.Cluster
	environ []string

	mu       sync.Mutex
	asked    map[string]bool   // names
	uploaded map[string]string // what was written into the storage account, by path
}

func publicAzure() []string {
	return []string{"management.azure.com", "login.microsoftonline.com", "prices.azure.com"}
}

func newInternet(t *testing.T) *internet {
	t.Helper()
	i := &internet{kube: new(kubesim.Cluster), asked: map[string]bool{}, uploaded: map[string]string{}}
	account := httptest.NewServer(http.HandlerFunc(i.account))
	t.Cleanup(account.Close)
	i.Server = azuresim.Start(t, &azuresim.Azure{Kubeconfig: kubesim.Start(t, i.kube), Blobs: account.URL, BlobKey: blobKey})
	azure := httptest.NewUnstartedServer(i.Azure)
	cert, authority := certificate(t, publicAzure())
	azure.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	azure.StartTLS()
	t.Cleanup(azure.Close)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { i.proxy(w, r, azure.Listener.Addr().String()) }))
	t.Cleanup(proxy.Close)
	trusted := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(trusted, authority, 0o600); err != nil {
		t.Fatal(err)
	}
	i.environ = []string{"HTTPS_PROXY=" + proxy.URL, "HTTP_PROXY=" + proxy.URL, "SSL_CERT_FILE=" + trusted}
	return i
}

func certificate(t *testing.T, names []string) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: names, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// proxy leads to the simulator who asks for a name of Azure.
func (i *internet) proxy(w http.ResponseWriter, r *http.Request, azure string) {
	name := r.URL.Hostname()
	i.mu.Lock()
	i.asked[name] = true
	i.mu.Unlock()
	if r.Method != http.MethodConnect || !slices.Contains(publicAzure(), name) {
		http.Error(w, "there is no "+name, http.StatusBadGateway)
		return
	}
	there, err := net.Dial("tcp", azure)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer there.Close()
	here, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer here.Close()
	_, _ = io.WriteString(here, "HTTP/1.1 200 OK\r\n\r\n")
	go func() {
		defer there.Close()
		_, _ = io.Copy(there, here)
	}()
	_, _ = io.Copy(here, there)
}

// account keeps what is uploaded. What Azurite says of it is tested elsewhere.
func (i *internet) account(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if r.Method != http.MethodPut {
		w.Header().Set("X-Ms-Error-Code", "BlobNotFound")
		w.WriteHeader(http.StatusNotFound)
		return
	}
	b, _ := io.ReadAll(r.Body)
	if r.URL.Query().Get("restype") == "" {
		i.uploaded[r.URL.Path] += string(b)
	}
	w.WriteHeader(http.StatusCreated)
}

// What binderhub-deploy showed, uploaded or left about.
const (
	dockerPassword = "hunter2/with&all|of'them"
	sshKey         = "-----BEGIN OPENSSH PRIVATE KEY-----\nnot-for-anybody-else\n-----END OPENSSH PRIVATE KEY-----\n"
)

// home is a person's directory as binderhub-deploy found it: her config.json, and her
// SSH key.
func home(t *testing.T, edits ...string) string {
	t.Helper()
	dir := t.TempDir()
	text := `{
  "container_registry": "dockerhub", "enable_https": "false",
  "acr": {"registry_name": null, "sku": "Basic"},
  "azure": {"subscription": "Research", "res_grp_name": "my-resources", "location": "West Europe", "node_count": 3, "vm_size": "Standard_D4s_v3",
    "sp_app_id": "` + azuresim.Client + `", "sp_app_key": "` + azuresim.Secret + `", "sp_tenant_id": "` + azuresim.Tenant + `", "log_to_blob_storage": true},
  "binderhub": {"name": "My_Hub", "version": "0.2.0-n568.h0a9ab0e", "image_prefix": "binder-dev"},
  "docker": {"username": "ada", "password": "` + dockerPassword + `", "org": null},
  "https": {"certmanager_version": null, "contact_email": null, "domain_name": null, "nginx_version": null}
}`
	for i := 0; i < len(edits); i += 2 {
		text = strings.Replace(text, edits[i], edits[i+1], 1)
	}
	if err := os.Mkdir(filepath.Join(dir, ".ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"config.json": text, ".ssh/id_rsa": sshKey, ".ssh/id_rsa.pub": "ssh-rsa AAAA ada"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// program is a process of its own, in a directory, that reaches this internet and
// finds no other program: no az, no helm, no shell.
func (i *internet) program(t *testing.T, dir string, environ []string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, append([]string{"deploy"}, args...)...)
	cmd.Dir = dir
	cmd.Env = slices.Concat([]string{asProgram + "=1", "HOME=" + dir, "PATH=" + t.TempDir()}, i.environ, environ)
	return cmd
}

// shows says which secrets are in a text, as they are or in base64.
func shows(text string) (found []string) {
	for _, secret := range []string{azuresim.Secret, dockerPassword, "not-for-anybody-else", blobKey} {
		for _, form := range []string{secret, base64.StdEncoding.EncodeToString([]byte(secret))} {
			if strings.Contains(text, form) {
				found = append(found, form)
			}
		}
	}
	return found
}

// TestDefect10SecretsStayOut: binderhub-deploy printed its service principal's key, and
// uploaded secret.yaml and the person's SSH key with its logs. Here a person runs `up`
// with its config.json, and the button's container is started with its variables.
func TestDefect10SecretsStayOut(t *testing.T) {
	t.Parallel()
	environ := []string{
		"BINDERHUB_CONTAINER_MODE=true", "AKS_NODE_COUNT=3", "AKS_NODE_VM_SIZE=Standard_D4s_v3", "AZURE_SUBSCRIPTION=/subscriptions/" + azuresim.Subscription,
		"BINDERHUB_NAME=My_Hub", "BINDERHUB_VERSION=0.2.0", "CONTAINER_REGISTRY=dockerhub", "DOCKER_IMAGE_PREFIX=binder-dev", "ENABLE_HTTPS=false",
		"RESOURCE_GROUP_LOCATION=West Europe", "RESOURCE_GROUP_NAME=my-resources", "SP_APP_ID=" + azuresim.Client, "SP_APP_KEY=" + azuresim.Secret, "SP_TENANT_ID=" + azuresim.Tenant,
		"DOCKERHUB_USERNAME=ada", "DOCKERHUB_PASSWORD=" + dockerPassword, "DOCKERHUB_ORGANISATION=null",
	}
	for name, run := range map[string]func(t *testing.T, i *internet, dir string) (shown string){
		"file": func(t *testing.T, i *internet, dir string) string {
			t.Helper()
			out, err := i.program(t, dir, nil, "up", "--yes", "--no-verify", "-f", "config.json").CombinedOutput()
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			return string(out)
		},
		"container": func(t *testing.T, i *internet, dir string) string {
			t.Helper()
			return untilVerified(t, func(address string) *exec.Cmd { return i.program(t, dir, environ, "container", "--page", address) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i, dir := newInternet(t), home(t)
			shown := run(t, i, dir)
			if !strings.Contains(shown, "service principal "+azuresim.Client) || !strings.Contains(shown, "done: create release my-hub") {
				t.Fatalf("it was not deployed:\n%s", shown)
			}
			if found := shows(shown); len(found) > 0 {
				t.Errorf("shown: %q\n%s", found, shown)
			}
			i.uploads(t)
			leftAbout(t, dir)
			i.kept(t)
		})
	}
}

// untilVerified runs the container until it would launch something, which the stand-in
// for a cluster can't; it returns what it said and what is on its page.
func untilVerified(t *testing.T, container func(address string) *exec.Cmd) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	cmd := container(address)
	said, err := os.Create(filepath.Join(t.TempDir(), "said"))
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	page := pageOf(t, "http://"+address, "verify http")
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	b, err := os.ReadFile(said.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(b) + page
}

// pageOf reads a container's page until a line begins with a text.
func pageOf(t *testing.T, url, until string) (page string) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		res, err := http.Get(url + "/events")
		if err != nil {
			select {
			case <-t.Context().Done():
				t.Fatal(err)
			case <-tick.C:
			}
			continue
		}
		defer res.Body.Close()
		for lines := bufio.NewScanner(res.Body); lines.Scan(); {
			var line string
			data, ok := strings.CutPrefix(lines.Text(), "data: ")
			if !ok || json.Unmarshal([]byte(data), &line) != nil {
				continue
			}
			page += line + "\n"
			if strings.HasPrefix(line, until) {
				return page
			}
		}
		t.Errorf("no line of the page begins with %q:\n%s", until, page)
		return page
	}
}

// uploads: the storage account has the journal and logs, and nothing else.
func (i *internet) uploads(t *testing.T) {
	t.Helper()
	i.mu.Lock()
	defer i.mu.Unlock()
	expected := regexp.MustCompile(`^/\w+/binnacle/(journal|outputs\.json|runs/\w+-up\.log)$`)
	for path, text := range i.uploaded {
		if !expected.MatchString(path) {
			t.Errorf("uploaded: %s", path)
		}
		if found := shows(text); len(found) > 0 {
			t.Errorf("uploaded in %s: %q", path, found)
		}
	}
	if len(i.uploaded) == 0 {
		t.Error("nothing was uploaded: it is looked for in the wrong way")
	}
}

// leftAbout: beside what was there, no file has a secret.
func leftAbout(t *testing.T, dir string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || e.Name() == "config.json" || filepath.Base(filepath.Dir(path)) == ".ssh" {
			return err
		}
		files++
		b, err := os.ReadFile(path)
		if found := shows(string(b)); len(found) > 0 {
			t.Errorf("left in %s: %q", path, found)
		}
		return err
	})
	if err != nil || files == 0 {
		t.Errorf("%d files: %v", files, err)
	}
}

// kept: on Azure nothing knows a secret, and in the cluster only the Secrets with the
// registry's login do; not what Helm keeps.
func (i *internet) kept(t *testing.T) {
	t.Helper()
	for id, text := range i.Whole() {
		if found := shows(text); len(found) > 0 {
			t.Errorf("Azure keeps in %s: %q", id, found)
		}
	}
	logins, releases := 0, 0
	for path, text := range i.kube.State() {
		var o struct{ Data map[string][]byte }
		if strings.Contains(path, "/secrets/") {
			if err := json.Unmarshal([]byte(text), &o); err != nil {
				t.Fatal(err)
			}
		}
		if strings.HasSuffix(path, "/secrets/my-hub-registry") {
			want := base64.StdEncoding.EncodeToString([]byte("ada:" + dockerPassword))
			if !strings.Contains(string(o.Data[".dockerconfigjson"]), want) {
				t.Errorf("%s has not the password: %s", path, o.Data[".dockerconfigjson"])
			}
			logins++
			continue
		}
		if strings.Contains(path, "/secrets/sh.helm.release") {
			text = unzipped(t, o.Data["release"])
			releases++
		}
		text += string(bytes.Join(slices.Collect(maps.Values(o.Data)), nil))
		if found := shows(text); len(found) > 0 || strings.Contains(text, base64.StdEncoding.EncodeToString([]byte("ada:"+dockerPassword))) {
			t.Errorf("the cluster keeps in %s: %q", path, found)
		}
	}
	if logins != 2 || releases == 0 {
		t.Errorf("%d logins, %d releases", logins, releases)
	}
}

// unzipped is a release as Helm keeps it.
func unzipped(t *testing.T, b []byte) string {
	t.Helper()
	zipped, err := base64.StdEncoding.DecodeString(string(b))
	if err != nil {
		t.Fatal(err)
	}
	r, err := gzip.NewReader(bytes.NewReader(zipped))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil || !bytes.Contains(text, []byte(`"manifest"`)) {
		t.Fatalf("%v: this is no release: %.200s", err, text)
	}
	return string(text)
}

// TestDefect14NothingOutdated: binderhub-deploy fetched helm charts from repositories
// that are gone, a cert-manager whose API is gone, and an ingress controller that is
// retired; and needed az, kubectl, helm and jq. Here a config.json that names their
// versions comes up where there is no other program, and nothing but Azure.
func TestDefect14NothingOutdated(t *testing.T) {
	t.Parallel()
	i := newInternet(t)
	dir := home(t, `"enable_https": "false"`, `"enable_https": "true"`, `"certmanager_version": null`, `"certmanager_version": "v0.15.1"`,
		`"nginx_version": null`, `"nginx_version": "1.2"`, `"contact_email": null`, `"contact_email": "ada@example.org"`)
	out, err := i.program(t, dir, nil, "up", "--yes", "--no-verify", "-f", "config.json").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{
		"note: binderhub.version: names a version of BinderHub's chart; Binnacle installs its own version.",
		"note: https.certmanager_version: the hub gets certificates by itself", "note: https.nginx_version: the hub speaks HTTPS itself",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
	i.mu.Lock()
	asked := slices.Sorted(maps.Keys(i.asked))
	i.mu.Unlock()
	if diff := cmp.Diff(slices.Sorted(slices.Values(publicAzure())), asked); diff != "" {
		t.Errorf("the names that were asked for (-want +got):\n%s", diff)
	}
	current := regexp.MustCompile(`^/(api|apis/(apps|networking\.k8s\.io|policy|rbac\.authorization\.k8s\.io|scheduling\.k8s\.io|storage\.k8s\.io|coordination\.k8s\.io))/v1/`)
	images := map[string]bool{}
	for path, text := range i.kube.State() {
		if !current.MatchString(path) || strings.Contains(path, "/ingress") || strings.Contains(text, "cert-manager") || strings.Contains(text, "nginx") {
			t.Errorf("in the cluster: %s", path)
		}
		for _, m := range regexp.MustCompile(`"image":"([^"]*)"`).FindAllStringSubmatch(text, -1) {
			images[m[1]] = true
		}
	}
	if diff := cmp.Diff(map[string]bool{"binnacle:1.2.3": true}, images); diff != "" {
		t.Errorf("images (-want +got):\n%s", diff)
	}
	var config struct{ Data map[string][]byte }
	if err := json.Unmarshal([]byte(i.kube.State()["/api/v1/namespaces/my-hub/secrets/my-hub-binnacle-config"]), &config); err != nil {
		t.Fatal(err)
	}
	if text := string(config.Data["binnacle.yaml"]); !strings.Contains(text, "acme:") || !strings.Contains(text, "email: ada@example.org") {
		t.Errorf("the hub does not get a certificate itself:\n%s", text)
	}
}

// TestDefect06ReadyIsCounted: binderhub-deploy counted the nodes whose line has "Ready"
// in it, as "NotReady" has, waited for exactly as many as it had asked for, and ended
// when there was none yet.
func TestDefect06ReadyIsCounted(t *testing.T) {
	t.Parallel()
	file, k := onSim(t, ownRegistry+"values: {builders: {replicas: 3}}\n")
	environ := []string{"REGISTRY_PASSWORD=" + registryPassword}
	for _, tt := range []struct {
		want  string
		code  int
		nodes []string // the condition Ready of each
	}{
		{"ok    nodes         1 of 3 ready, with 4 cores\n", 0, []string{"True", "False", "Unknown"}},
		{"wrong nodes         0 of 2 ready, with 0 cores\n", 2, []string{"False", "Unknown"}},
		{"wrong nodes         0 of 0 ready, with 0 cores\n", 2, nil},
		{"ok    nodes         5 of 5 ready, with 20 cores\n", 0, []string{"True", "True", "True", "True", "True"}},
	} {
		k.Remove("/api/v1/nodes/")
		for i, ready := range tt.nodes {
			name := "node-" + string(rune('a'+i))
			k.Add("/api/v1/nodes/"+name, map[string]any{"metadata": map[string]any{}, "status": map[string]any{
				"allocatable": map[string]any{"cpu": "4"}, "conditions": []any{map[string]any{"type": "MemoryPressure", "status": "False"}, map[string]any{"type": "Ready", "status": ready}},
			}})
		}
		if code, out, log := deploy(t, "", environ, "check", "-f", file); code != tt.code || !strings.Contains(out, tt.want) {
			t.Errorf("%q: exit %d, not %q\n%s%s", tt.nodes, code, tt.want, out, log)
		}
	}

	// What is installed is waited for: with none of its pods, with some, and until there
	// are as many as are wanted, or more, as when one of the nodes before is late to end.
	k.Starting = true
	ready := func(n int) func() {
		return func() {
			k.Edit("/apis/apps/v1/namespaces/my-hub/", func(_ string, o map[string]any) {
				status, _ := o["status"].(map[string]any)
				status["readyReplicas"] = n
				k.Starting = n < 3 // the hub is installed once more, with its address
			})
		}
	}
	var out bytes.Buffer
	log := &trigger{text: "builder 0 of 3", f: ready(2)}
	log.next = &trigger{text: "builder 2 of 3", f: ready(4)}
	const patience = 2 * time.Minute
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	code := cli.Run(ctx, cli.Env{
		Args: []string{"deploy", "up", "--yes", "--no-verify", "-f", file}, In: strings.NewReader(""), Out: &out, Err: log, Environ: environ, Width: func() int { return 80 }, Registries: registryhost.Nowhere(),
	})
	before, after, _ := strings.Cut(log.String(), "builder 2 of 3")
	if code != 0 || strings.Contains(before, "done: create release") || !strings.Contains(after, "done: create release") {
		t.Errorf("exit %d:\n%s%s", code, log.String(), out.String())
	}
}
