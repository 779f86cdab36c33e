package cli_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"

	"github.com/binnacle-hub/binnacle/test/azuresim"
)

const blobKey = "YSBrZXkgdGhhdCBtdXN0IG5vdCBiZSBzZWVuIGFueXdoZXJl"

// withAzurite runs Azurite, Microsoft's own stand-in for the storage of Azure, with
// the one account.
func withAzurite(t *testing.T, account string) (url string) {
	t.Helper()
	for _, program := range []string{"npm", "node"} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("BINNACLE_TEST_REQUIRE") == "all" {
				t.Fatalf("%s is not installed and BINNACLE_TEST_REQUIRE=all", program)
			}
			t.Skipf("%s is not installed", program)
		}
	}
	dir := t.TempDir()
	out, err := exec.CommandContext(t.Context(), "npm", "install", "--no-audit", "--no-fund", "--no-save", "--ignore-scripts", "--prefix", dir, "azurite@3.37.0").CombinedOutput()
	if err != nil {
		t.Fatalf("npm install: %v\n%s", err, out)
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(address)
	cmd := exec.CommandContext(t.Context(), "node", filepath.Join(dir, "node_modules/azurite/dist/src/blob/main.js"),
		"--blobHost", "127.0.0.1", "--blobPort", port, "--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry", "--silent")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "AZURITE_ACCOUNTS="+account+":"+blobKey)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		err = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, notYet := new(net.Dialer).DialContext(t.Context(), "tcp", address)
		if notYet == nil {
			_ = conn.Close()
			return "http://" + address
		}
		select {
		case <-ended:
			t.Fatalf("azurite ended: %v\n%s", err, said.String())
		case <-t.Context().Done():
			t.Fatalf("azurite does not answer: %v", notYet)
		case <-tick.C:
		}
	}
}

// blobs are the contents of the container, by name.
func blobs(t *testing.T, url, account string) map[string]string {
	t.Helper()
	cred, err := azblob.NewSharedKeyCredential(account, blobKey)
	if err != nil {
		t.Fatal(err)
	}
	c, err := azblob.NewClientWithSharedKeyCredential(url+"/"+account+"/", cred, nil)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for pager := c.NewListBlobsFlatPager("binnacle", nil); pager.More(); {
		page, err := pager.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range page.Segment.BlobItems {
			got, err := c.DownloadStream(t.Context(), "binnacle", *b.Name, nil)
			if err != nil {
				t.Fatal(err)
			}
			var text bytes.Buffer
			if _, err := text.ReadFrom(got.Body); err != nil {
				t.Fatal(err)
			}
			all[*b.Name] = text.String()
		}
	}
	return all
}

// With azure.storage the journal, the logs of runs and what came of them are in the
// storage account, and another machine goes on from there.
func TestDeployStorage(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("installs and runs Azurite")
	}
	if _, err := base64.StdEncoding.DecodeString(blobKey); err != nil {
		t.Fatal(err)
	}
	s := azuresim.Start(t, &azuresim.Azure{BlobKey: blobKey})
	file, environ := onAzure(t, s, "  region: westeurope\n", "  region: westeurope\n  storage: true\n")
	flags := []string{"--no-hub", "-f", file}
	_, plan, log := deploy(t, "", environ, append(flags, "plan")...)
	account := regexp.MustCompile(`storage account\s+(\w+)`).FindStringSubmatch(plan)
	if account == nil {
		t.Fatalf("no storage account in the plan:\n%s%s", plan, log)
	}
	s.Blobs = withAzurite(t, account[1])

	code, out, log := deploy(t, "", environ, append(flags, "up", "--yes")...)
	if code != 0 || strings.Contains(log, "Warning") {
		t.Fatalf("exit %d: %s%s", code, out, log)
	}
	journal, err := os.ReadFile(filepath.Join(filepath.Dir(file), ".binnacle", "my-hub", "journal"))
	if err != nil {
		t.Fatal(err)
	}
	kept := blobs(t, s.Blobs, account[1])
	if kept["journal"] != string(journal) {
		t.Errorf("the journal in the account is not the one here:\n%s\n%s", kept["journal"], journal)
	}
	var outputs struct{ Resources []struct{ Kind, Name string } }
	if err := json.Unmarshal([]byte(kept["outputs.json"]), &outputs); err != nil || len(outputs.Resources) < 4 {
		t.Errorf("%v: %s", err, kept["outputs.json"])
	}
	var runs []string
	for name, text := range kept {
		if strings.HasPrefix(name, "runs/") {
			runs = append(runs, name)
			if !strings.HasSuffix(name, "-up.log") || !strings.Contains(text, "done: create cluster my-hub") || !strings.Contains(text, "This worked.") {
				t.Errorf("%s: %s", name, text)
			}
		}
		if strings.Contains(text, blobKey) || strings.Contains(text, azuresim.Secret) {
			t.Errorf("a secret is in %s", name)
		}
	}
	if len(runs) != 1 || strings.Contains(out+log, blobKey) {
		t.Errorf("runs: %q", runs)
	}

	// Another machine: the same file, nothing else.
	before := s.Writes()
	if err := os.RemoveAll(filepath.Join(filepath.Dir(file), ".binnacle")); err != nil {
		t.Fatal(err)
	}
	code, _, log = deploy(t, "", environ, append(flags, "up", "--yes")...)
	if code != 0 || !strings.Contains(log, "from the storage account "+account[1]) || !slices.Equal(before, s.Writes()) {
		t.Errorf("exit %d: %s", code, log)
	}
	again, err := os.ReadFile(filepath.Join(filepath.Dir(file), ".binnacle", "my-hub", "journal"))
	if err != nil || string(again) != string(journal) {
		t.Errorf("%v: %s", err, again)
	}
	if code, _, log := deploy(t, "", environ, append(flags, "down", "--confirm", "my-hub")...); code != 0 {
		t.Errorf("exit %d: %s", code, log)
	}
}

// A storage account that does not let us in is said once and stops nothing.
func TestDeployStorageAway(t *testing.T) {
	t.Parallel()
	s := azuresim.Start(t, &azuresim.Azure{BlobKey: "bm90IHRoZSBrZXk=", Blobs: "http://127.0.0.1:1"})
	file, environ := onAzure(t, s, "  region: westeurope\n", "  region: westeurope\n  storage: true\n")
	code, out, log := deploy(t, "", environ, "up", "--yes", "--no-hub", "-f", file)
	if code != 0 || strings.Count(log, "Warning: journal and log are not copied to the storage account; the run goes on.") != 1 || strings.Contains(out+log, s.BlobKey) {
		t.Errorf("exit %d: %s%s", code, out, log)
	}
}
