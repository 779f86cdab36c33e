// Package config is the file a deployment is described by: binnacle.yaml.
//
// [Load] reads it strictly and reports every problem at once; [Import] reads
// what binderhub-deploy was configured with. The comments of [Config] are what
// `binnacle deploy init` writes into the file and what the reference page says.
package config

import (
	"fmt"
	"slices"
	"strings"
)

// The kinds of place a hub is deployed to.
const (
	TargetAzure   = "azure"
	TargetCluster = "cluster"
	TargetHost    = "host"
)

// The kinds of registry images are kept in.
const (
	RegistryAzure     = "azure"
	RegistryDockerHub = "dockerhub"
	RegistryOther     = "other"
	RegistryNone      = "none"
)

// Config describes one deployment. Nothing in it is secret.
type Config struct {
	// Name of the deployment: 2 to 40 lower-case letters, digits and hyphens.
	// Everything that is created is named after it.
	Name string `yaml:"name" example:"my-hub"`
	// Target is where the hub runs: "azure" (a new cluster and all around it),
	// "cluster" (a Kubernetes that is there) or "host" (one machine).
	Target   string   `yaml:"target" example:"azure"`
	Azure    Azure    `yaml:"azure"`
	Cluster  Cluster  `yaml:"cluster"`
	Host     Host     `yaml:"host"`
	Registry Registry `yaml:"registry"`
	DNS      DNS      `yaml:"dns"`
	HTTPS    HTTPS    `yaml:"https"`
	Access   Access   `yaml:"access"`
	Verify   Verify   `yaml:"verify"`
	Watch    Watch    `yaml:"watch"`
	// Image of hub and builders on a cluster, as `make image` makes it; empty is
	// binnacle and this program's version, wherever the nodes find that.
	Image string `yaml:"image" example:"registry.example.org/binnacle:1.0"`
	// Values are settings of the chart, laid over what follows from this file;
	// docs/kubernetes.md tells of them. Nothing of them is secret.
	Values map[string]any `yaml:"values" example:"{replicas: 1}"`
	// Hub is the configuration of the hub itself, as docs/reference/configuration.md
	// has it.
	Hub map[string]any `yaml:"hub" example:"{launch: {max_sessions: 20}}"`
}

// Azure is what the target azure needs to know.
type Azure struct {
	// Subscription is the name or the id of the subscription that pays.
	Subscription string `yaml:"subscription" example:"00000000-0000-0000-0000-000000000000"`
	// Region is where everything is created; "West Europe" is the same as
	// westeurope.
	Region string `yaml:"region" example:"westeurope"`
	// ResourceGroup holds what is created. One that is there already is used and
	// never deleted. Empty is binnacle- and the name.
	ResourceGroup string `yaml:"resource_group" example:"binnacle-my-hub"`
	// SignIn says who you are for Azure: "cli" (whom az is signed in as), "device"
	// (a code to type into a browser), "service_principal", "managed_identity",
	// "workload_identity" or "pipelines" (Azure Pipelines).
	SignIn string `yaml:"sign_in" example:"cli"`
	// Tenant and Client are ids that sign-ins other than cli need; empty takes
	// AZURE_TENANT_ID and AZURE_CLIENT_ID of the environment.
	Tenant string `yaml:"tenant" example:"00000000-0000-0000-0000-000000000000"`
	Client string `yaml:"client" example:"00000000-0000-0000-0000-000000000000"`
	// SecretFrom is where the secret of a service principal is: env:NAME or
	// file:PATH.
	SecretFrom string `yaml:"secret_from" example:"env:AZURE_CLIENT_SECRET"`
	// ServiceConnection is the id of the service connection in Azure Pipelines.
	ServiceConnection string `yaml:"service_connection" example:"00000000-0000-0000-0000-000000000000"`
	// Kubernetes is the cluster's version, "1.34" or "1.34.2"; empty is Azure's
	// default.
	Kubernetes string `yaml:"kubernetes" example:"1.34"`
	// Tier of the cluster's control plane: "free" (no promise of availability, at
	// most 10 nodes) or "standard".
	Tier  string `yaml:"tier" example:"free"`
	Nodes Nodes  `yaml:"nodes"`
	// Pools are machines for builds and for sessions alone.
	Pools   Pools   `yaml:"pools"`
	Network Network `yaml:"network"`
	// Storage creates a storage account that keeps the journal, the log of each run
	// and what came of it, so that another machine can go on.
	Storage bool `yaml:"storage" example:"true"`
	// Cloud describes an Azure other than the public one: a national cloud, Azure
	// Stack.
	Cloud Cloud `yaml:"cloud"`
}

// Nodes are machines of the cluster, all alike.
type Nodes struct {
	// Size is the machine type. In azure.nodes AKS runs its own pods, which need 4
	// vCPUs and 4 GB and none of the B series. A pool without a size is none.
	Size string `yaml:"size" example:"Standard_D4s_v5"`
	// Min and Max bound how many nodes there are; the cluster grows and shrinks
	// between them.
	Min int `yaml:"min" example:"1"`
	Max int `yaml:"max" example:"3"`
	// DiskGB is the size of each node's disk, which holds images and build caches.
	DiskGB int `yaml:"disk_gb" example:"128"`
}

// Names of pools.
const (
	PoolBuilds   = "builds"
	PoolSessions = "sessions"
)

// Pools keep builds and sessions off the machines of the hub. Without them all share
// azure.nodes.
type Pools struct {
	// Builds are for builders: a heavy build then slows no session down.
	Builds Nodes `yaml:"builds"`
	// Sessions are for sessions alone: the cluster can give these machines back
	// when nobody works, which it can't with one that the hub is on.
	Sessions Nodes `yaml:"sessions"`
}

// Pool is one of them.
type Pool struct {
	Nodes
	Name string
}

// All are the pools that are wanted.
func (p Pools) All() (out []Pool) {
	for _, pool := range p.both() {
		if pool.Size != "" {
			out = append(out, pool)
		}
	}
	return out
}

// Named is the pool of that name; without one it has no size.
func (p Pools) Named(name string) (pool Pool) {
	for _, pool := range p.All() {
		if pool.Name == name {
			return pool
		}
	}
	return pool
}

func (p Pools) both() []Pool { return []Pool{{p.Builds, PoolBuilds}, {p.Sessions, PoolSessions}} }

// Network has the address ranges of the cluster. They must not overlap each
// other, networks that the cluster is to reach, nor 10.224.0.0/12, which AKS
// takes for its nodes: their network is made by AKS, because one of your own
// would need the right to assign roles.
type Network struct {
	// Pods is the overlay's range.
	Pods string `yaml:"pods" example:"10.244.0.0/16"`
	// Services is the range of the cluster's own virtual addresses.
	Services string `yaml:"services" example:"10.245.0.0/16"`
}

// Cloud has the addresses of an Azure. All are empty for the public one.
type Cloud struct {
	// ResourceManager is the address of Azure Resource Manager.
	ResourceManager string `yaml:"resource_manager" example:"https://management.example.org"`
	// Authority is where tokens come from.
	Authority string `yaml:"authority" example:"https://login.example.org"`
	// Audience tokens are for; empty is the address of Resource Manager.
	Audience string `yaml:"audience" example:"https://management.example.org"`
	// Prices is the address of the retail prices API.
	Prices string `yaml:"prices" example:"https://prices.example.org/api/retail/prices"`
	// CAFile is a file with the certificate authorities to trust for these.
	CAFile string `yaml:"ca_file" example:"/etc/ssl/certs/site.pem"`
}

// Cluster is what the target cluster needs to know.
type Cluster struct {
	// Kubeconfig is the file that says how to reach the cluster; empty is
	// KUBECONFIG of the environment, else ~/.kube/config.
	Kubeconfig string `yaml:"kubeconfig" example:"/home/ada/.kube/config"`
	// Context of the kubeconfig; it must be named, so that the wrong cluster is
	// never touched.
	Context string `yaml:"context" example:"my-cluster"`
	// Namespace the hub is installed in; empty is the deployment's name.
	Namespace string `yaml:"namespace" example:"my-hub"`
}

// Host is what the target host needs to know.
type Host struct {
	// Address is the machine, user@host with or without :port, reached by the ssh
	// program as your own configuration of it says; empty is this machine. Its key
	// must be known already.
	Address string `yaml:"address" example:"ada@hub.example.org"`
	// Identity is the file of the private key to sign in with; empty is what ssh
	// takes by itself.
	Identity string `yaml:"identity" example:"/home/ada/.ssh/hub"`
	// KnownHosts is the file with the machine's key; empty is what ssh has.
	KnownHosts string `yaml:"known_hosts" example:"/home/ada/.ssh/known_hosts"`
	// Sudo becomes root with sudo, which must not ask for a password, where we are
	// not root already.
	Sudo bool `yaml:"sudo" example:"true"`
	// Packages installs what the system lacks (git, mmdebstrap…) with apt-get.
	// Otherwise check names what is missing.
	Packages bool `yaml:"packages" example:"true"`
	// Data is the directory the hub keeps everything in; empty is
	// /var/lib/binnacle.
	Data string `yaml:"data" example:"/srv/binnacle"`
	// Listen is the address the hub answers on; empty is 0.0.0.0:443, and
	// 0.0.0.0:80 without HTTPS.
	Listen string `yaml:"listen" example:"0.0.0.0:443"`
}

// Split takes the address apart; what it does not have is empty.
func (h Host) Split() (user, host, port string) {
	host = h.Address
	if u, rest, ok := strings.Cut(host, "@"); ok {
		user, host = u, rest
	}
	// An IPv6 address has more than one colon and no port here.
	if i := strings.IndexByte(host, ':'); i >= 0 && strings.Count(host, ":") == 1 {
		host, port = host[:i], host[i+1:]
	}
	return user, host, port
}

// Registry is where images are kept.
type Registry struct {
	// Kind is "azure" (one is created beside the cluster), "dockerhub", "other"
	// (any registry, by its host) or "none" (each node keeps its own).
	Kind string `yaml:"kind" example:"azure"`
	// Name of the Azure registry: 5 to 50 letters and digits, not taken by anybody
	// in the world. Empty follows from the deployment's name and subscription.
	Name string `yaml:"name" example:"myhubimages"`
	// SKU of the Azure registry: "Basic", "Standard" or "Premium".
	SKU string `yaml:"sku" example:"Basic"`
	// Host of another registry.
	Host string `yaml:"host" example:"registry.example.org"`
	// Organisation on Docker Hub; empty is the user's own.
	Organisation string `yaml:"organisation" example:"my-institute"`
	// Username for Docker Hub or another registry.
	Username string `yaml:"username" example:"ada"`
	// PasswordFrom is where the password is: env:NAME or file:PATH.
	PasswordFrom string `yaml:"password_from" example:"env:REGISTRY_PASSWORD"`
	// Prefix begins the name of every image.
	Prefix string `yaml:"prefix" example:"binder-"`
}

// DNS is how people reach the hub.
type DNS struct {
	// Domain of the hub. With the target azure a DNS zone is created for it, whose
	// name servers you enter at the parent domain. Empty uses the label.
	Domain string `yaml:"domain" example:"hub.example.org"`
	// Resolver is a name server that knows the internet, as an address; empty is this
	// machine's. It is asked whether the domain is delegated.
	Resolver string `yaml:"resolver" example:"192.0.2.53"`
	// Label is the name below the cloud's own domain; empty is the deployment's
	// name and a few characters that make it unique.
	Label string `yaml:"label" example:"my-hub"`
}

// HTTPS is done by the hub itself.
type HTTPS struct {
	// Enabled gets a certificate by ACME and keeps it fresh.
	Enabled bool `yaml:"enabled" example:"true"`
	// Email is told to the certificate authority for notices.
	Email string `yaml:"email" example:"ada@example.org"`
	// Staging asks the authority for certificates that browsers do not trust, for
	// trying out.
	Staging bool `yaml:"staging" example:"false"`
}

// Access is who may use the hub.
type Access struct {
	// From lists the addresses that reach the hub; empty is everybody.
	From []string `yaml:"from" example:"[192.0.2.0/24]"`
	// Repositories lists regular expressions on gh/owner/name/ref; when there is
	// one, only what matches may be launched.
	Repositories []string `yaml:"repositories" example:"[^gh/my-institute/]"`
}

// Verify is how a hub is proved to work after each change.
type Verify struct {
	// Repository is launched through the public address, and a cell of Python is
	// run in it. The hub must be able to fetch it.
	Repository string `yaml:"repository" example:"gh/my-institute/hello/main"`
}

// Watch lets the hub follow the repository that holds this file: a part of the
// deployment looks there, deploys what is new, and goes back when the hub does
// not verify. Nobody needs a way in from outside for that.
type Watch struct {
	// Repository that holds this file, as git fetches it; empty lets nobody
	// follow.
	Repository string `yaml:"repository" example:"https://git.example.org/institute/hub"`
	// Branch of it; empty is the repository's own.
	Branch string `yaml:"branch" example:"main"`
	// Path of this file in it.
	Path string `yaml:"path" example:"binnacle.yaml"`
	// Interval is how long to wait between two looks.
	Interval string `yaml:"interval" example:"1m"`
	// TokenFrom is where a token of the forge is, env:NAME or file:PATH, when the
	// repository is not everybody's or verdicts are to be written: `up` keeps it
	// with the deployment.
	TokenFrom string `yaml:"token_from" example:"env:FORGE_TOKEN"`
	// Status writes the verdict on each commit to the forge, of the kind "github",
	// "gitlab", "gitea" (Forgejo too) or "azure-devops"; empty writes none.
	Status string `yaml:"status" example:"github"`
	// API is the address of the forge's API; empty follows from the repository's.
	API string `yaml:"api" example:"https://git.example.org/api/v3"`
	// Via is an address and port that leads to the hub where its pods do not reach
	// the public address: a commit is verified by it then. Name and certificate
	// have to be the public ones all the same.
	Via string `yaml:"via" example:"my-hub-binnacle.my-hub.svc:80"`
	// Identity is the client id of an Azure identity that may change what is around
	// the cluster, by workload identity. Without it such changes wait for a person
	// who runs `up`, and only the hub is brought to what the file says.
	Identity string `yaml:"identity" example:"00000000-0000-0000-0000-000000000000"`
}

// Default is a deployment that lacks only its name, target and place.
func Default() Config {
	return Config{
		Azure: Azure{
			SignIn: "cli", Tier: "free",
			Nodes:   Nodes{Size: "Standard_D4s_v5", Min: 1, Max: 3, DiskGB: 128},
			Pools:   Pools{Builds: Nodes{Min: 1, Max: 2, DiskGB: 256}, Sessions: Nodes{Min: 1, Max: 5, DiskGB: 128}},
			Network: Network{Pods: "10.244.0.0/16", Services: "10.245.0.0/16"},
		},
		Host:     Host{Sudo: true, Packages: true},
		Registry: Registry{Kind: RegistryNone, SKU: "Basic", Prefix: "binder-"},
		HTTPS:    HTTPS{Enabled: true},
		Verify:   Verify{Repository: "gh/binder-examples/requirements"},
		Watch:    Watch{Path: "binnacle.yaml", Interval: "1m"},
	}
}

// Group is the name of the Azure resource group.
func (c Config) Group() string {
	if c.Azure.ResourceGroup != "" {
		return c.Azure.ResourceGroup
	}
	return "binnacle-" + c.Name
}

// Around are the settings of what is around the hub's cluster, by path: the hub
// itself can be changed without them. There are none but on Azure.
func (c Config) Around() map[string]string {
	out := map[string]string{}
	if c.Target != TargetAzure {
		return out
	}
	for _, f := range plainFields(&c) {
		section, key, _ := strings.Cut(f.Path, ".")
		switch {
		case section == "azure" && !slices.Contains([]string{"sign_in", "tenant", "client", "secret_from", "service_connection"}, key) && !strings.HasPrefix(key, "cloud."):
		case section == "dns" && key != "resolver":
		case section == "registry" && key != "prefix" && key != "password_from":
		case f.Path == "watch.identity":
		default:
			continue
		}
		out[f.Path] = fmt.Sprint(f.Value.Interface())
	}
	return out
}

// Namespace is the Kubernetes namespace the hub is installed in.
func (c Config) Namespace() string {
	if c.Cluster.Namespace != "" {
		return c.Cluster.Namespace
	}
	return c.Name
}

// ImagePrefix is what the names of images begin with, given the host of the
// registry that the deployment uses; "" where each node keeps its own.
//
// Registries of Azure and others get a project of the deployment's name:
// host/project/image, which every client can read back.
func (c Config) ImagePrefix(host string) string {
	switch c.Registry.Kind {
	case RegistryAzure:
		return host + "/" + c.Name + "/" + c.Registry.Prefix
	case RegistryOther:
		return c.Registry.Host + "/" + c.Name + "/" + c.Registry.Prefix
	case RegistryDockerHub:
		owner := c.Registry.Organisation
		if owner == "" {
			owner = c.Registry.Username
		}
		return "docker.io/" + owner + "/" + c.Registry.Prefix
	default:
		return ""
	}
}

// normalise writes values the way Azure has them.
func (c *Config) normalise() {
	c.Azure.Region = strings.ToLower(strings.ReplaceAll(c.Azure.Region, " ", ""))
	c.Azure.Subscription = strings.TrimPrefix(strings.TrimSpace(c.Azure.Subscription), "/subscriptions/")
}
