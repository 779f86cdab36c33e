package azure

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy"
	"github.com/binnacle-hub/binnacle/internal/deploy/config"
)

// RetailPrices is the public list of Azure's prices, which needs no sign-in;
// azure.cloud.prices names another.
const RetailPrices = "https://prices.azure.com/api/retail/prices"

// retailPrice is one line of the list.
type retailPrice struct {
	Currency string  `json:"currencyCode"`
	Price    float64 `json:"retailPrice"`
	Unit     string  `json:"unitOfMeasure"` // "1 Hour", "1/Day", "1/Month"
	Product  string  `json:"productName"`
	SKU      string  `json:"skuName"`
	Meter    string  `json:"meterName"`
}

// Prices asks for what is paid by time: machines, control plane, registry,
// address, zone. Disks, traffic and stored data are not in it.
func (c *Cloud) Prices(ctx context.Context, rs []deploy.Resource) (map[string]deploy.Price, error) {
	out := map[string]deploy.Price{}
	for _, r := range rs {
		var err error
		var p deploy.Price
		switch r.Kind {
		case kindCluster:
			p, err = c.clusterPrice(ctx)
		case kindPool:
			if pool := c.config.Azure.Pools.Named(r.Name); pool.Size != "" { // else it is about to go
				p, err = c.machinePrice(ctx, pool.Nodes)
			}
		case kindRegistry:
			p, err = c.fixedPrice(ctx, "Container Registry", "skuName eq '"+c.config.Registry.SKU+"'", "Registry Unit", c.config.Registry.SKU+" registry, without stored data")
		case kindAddress:
			p, err = c.fixedPrice(ctx, "Virtual Network", "skuName eq 'Standard'", "Static Public IP", "one static address")
		default:
			continue
		}
		if err != nil {
			return nil, err
		}
		if p.Currency != "" {
			out[r.Key()] = p
		}
	}
	return out, nil
}

func (c *Cloud) clusterPrice(ctx context.Context) (deploy.Price, error) {
	p, err := c.machinePrice(ctx, c.config.Azure.Nodes)
	if err != nil || p.Currency == "" || c.config.Azure.Tier != "standard" {
		return p, err
	}
	plane, err := c.fixedPrice(ctx, "Azure Kubernetes Service", "skuName eq 'Standard'", "Uptime SLA", "")
	p.Idle += plane.Idle
	p.Full += plane.Full
	p.Of += ", standard tier"
	return p, err
}

func (c *Cloud) machinePrice(ctx context.Context, n config.Nodes) (deploy.Price, error) {
	list, err := c.retail(ctx, "serviceName eq 'Virtual Machines' and armSkuName eq '"+n.Size+"'")
	if err != nil {
		return deploy.Price{}, err
	}
	var p deploy.Price
	for _, r := range list {
		if strings.Contains(r.Product, "Windows") || strings.Contains(r.SKU, "Spot") || strings.Contains(r.SKU, "Low Priority") {
			continue
		}
		hour := r.hourly()
		p = deploy.Price{Currency: r.Currency, Idle: hour * float64(n.Min), Full: hour * float64(n.Max), Of: fmt.Sprintf("%d to %d × %s, without disks and traffic", n.Min, n.Max, n.Size)}
		break
	}
	return p, nil
}

// fixedPrice is that of something that costs the same whoever uses it.
func (c *Cloud) fixedPrice(ctx context.Context, service, filter, meter, of string) (deploy.Price, error) {
	list, err := c.retail(ctx, "serviceName eq '"+service+"' and "+filter)
	if err != nil {
		return deploy.Price{}, err
	}
	for _, r := range list {
		if hour := r.hourly(); hour > 0 && strings.Contains(r.Meter, meter) {
			return deploy.Price{Currency: r.Currency, Idle: hour, Full: hour, Of: of}, nil
		}
	}
	return deploy.Price{}, nil
}

// hourly is the price of an hour; 0 for what is not paid by time.
func (r retailPrice) hourly() float64 {
	number, unit, ok := strings.Cut(r.Unit, "/")
	if !ok {
		number, unit, _ = strings.Cut(r.Unit, " ")
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if err != nil || n <= 0 {
		return 0
	}
	const hoursPerDay = 24
	switch strings.TrimSuffix(unit, "s") {
	case "Hour":
		return r.Price / n
	case "Day":
		return r.Price / n / hoursPerDay
	case "Month":
		return r.Price / n / deploy.HoursPerMonth
	}
	return 0
}

// retail reads the lines that match, of the region, at consumption prices.
func (c *Cloud) retail(ctx context.Context, filter string) ([]retailPrice, error) {
	base := c.config.Azure.Cloud.Prices
	if base == "" {
		base = RetailPrices
	}
	next := base + "?" + url.Values{"$filter": {"armRegionName eq '" + c.config.Azure.Region + "' and priceType eq 'Consumption' and " + filter}}.Encode()
	var out []retailPrice
	const mostPages = 10
	for range mostPages {
		var page struct {
			Items []retailPrice `json:"Items"`
			Next  string        `json:"NextPageLink"`
		}
		if err := c.getJSON(ctx, next, &page); err != nil {
			return nil, err
		}
		out = append(out, page.Items...)
		if next = page.Next; next == "" {
			break
		}
		// The list must not lead us elsewhere.
		if a, b := host(next), host(base); a != b {
			return nil, binnacle.Errorf(binnacle.CodeUnavailable, "The list of prices goes on at %s, which is not %s.", a, b)
		}
	}
	return out, nil
}

func host(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

func (c *Cloud) getJSON(ctx context.Context, address string, to any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return fmt.Errorf("prices: %w", err)
	}
	resp, err := c.transport.Do(req)
	if err != nil {
		return &binnacle.Error{Code: binnacle.CodeUnavailable, Op: "azure.prices", Message: "The list of prices can't be reached.", Err: err}
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return binnacle.Errorf(binnacle.CodeUnavailable, "The list of prices answered %s.", resp.Status)
	}
	if err := json.NewDecoder(resp.Body).Decode(to); err != nil {
		return &binnacle.Error{Code: binnacle.CodeUnavailable, Op: "azure.prices", Message: "The list of prices can't be read.", Err: err}
	}
	return nil
}
