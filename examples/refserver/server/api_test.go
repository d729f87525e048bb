package server

import (
	"encoding/base64"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/drover-cloud/drover/examples/refserver/csapi"
)

const fixed = "due to incorrect long value format, or entity does not exist"

func TestAuthentication(t *testing.T) {
	t.Parallel()
	n := start(t)
	strict := start(t, "-enforce-timestamps")
	v3 := func(expires string) params {
		p := params{"command": "listZones", "signatureVersion": "3"}
		if expires != "" {
			p["expires"] = expires
		}
		return p
	}
	in := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(time.RFC3339) }
	t.Run("ref-06 expiry", func(t *testing.T) {
		plain := params{"command": "listZones"}
		for _, c := range []struct {
			name   string
			n      *node
			p      params
			status int
		}{
			{"no version", n, plain, 200},
			{"in time", n, v3(in(time.Minute)), 200},
			{"offset without colon", n, v3(time.Now().Add(time.Minute).UTC().Format("2006-01-02T15:04:05-0700")), 200},
			{"a second ago", n, v3(in(-time.Second)), 401},
			{"missing", n, v3(""), 401},
			{"no date", n, v3("soon"), 401},
			{"25 h ahead", n, v3(in(25 * time.Hour)), 401},
			{"strict, no version", strict, plain, 401},
			{"strict, in time", strict, v3(in(10 * time.Minute)), 200},
			{"strict, 16 min ahead", strict, v3(in(16 * time.Minute)), 401},
		} {
			if a := c.n.send("GET", sign(c.p, "testsecret")); a.status != c.status {
				t.Errorf("%s: %s", c.name, a.raw)
			}
		}
		p := v3(in(time.Minute))
		p["command"], p["id"] = "stopVirtualMachine", nobody
		strict.send("GET", sign(p, "testsecret")).fails(t, 405, 9999)
	})
	t.Run("ref-07 one answer", func(t *testing.T) {
		good := sign(params{"command": "listZones"}, "testsecret")
		unknown := maps.Clone(good)
		unknown["apiKey"] = "nokey"
		unknown["signature"] = csapi.Sign(unknown, []byte("testsecret"))
		missing := maps.Clone(good)
		delete(missing, "signature")
		var answers []string
		for _, p := range []params{unknown, sign(params{"command": "listZones"}, "wrong"), missing} {
			a := n.send("POST", p)
			a.fails(t, 401, 0)
			answers = append(answers, strings.ReplaceAll(a.raw, a.str("traceid"), ""))
		}
		if answers[0] != answers[1] || answers[1] != answers[2] {
			t.Errorf("%q", answers)
		}
	})
	t.Run("unknown command needs a signature", func(t *testing.T) {
		n.send("GET", params{"command": "nonsense"}).fails(t, 401, 0)
		n.call("nonsense", nil).fails(t, 432, 9999)
		n.call("registerUserKeys", nil).fails(t, 432, 9999)
	})
}

func TestEnvelopes(t *testing.T) {
	t.Parallel()
	n := start(t)
	t.Run("ref-18 every failure is an envelope", func(t *testing.T) {
		n.do("PUT", "/client/api?command=listZones", "").fails(t, 405, 9999)
		n.do("GET", "/client/other", "").fails(t, 405, 9999)
		n.do("POST", "/client/api", strings.Repeat("a", 1<<20+1)).fails(t, 413, 9999)
		n.do("GET", "/client/api?command=listZones&name="+strings.Repeat("a", 300<<10), "").fails(t, 413, 9999)
		n.do("GET", "/client/api?a=%zz", "").fails(t, 430, 9999)
		r := rand.New(rand.NewPCG(1, 2))
		words := []string{"command", "listZones", "deployVirtualMachine", "id", "a[0].b", "a[", "%", "&", "=", "+", ";", "\x00", "é", "details", "page", "-1", nobody}
		for range 10_000 {
			p := params{}
			for range r.IntN(5) {
				p[words[r.IntN(len(words))]] = words[r.IntN(len(words))]
			}
			if r.IntN(2) == 0 {
				p["command"] = []string{"listVirtualMachines", "queryAsyncJobResult", "stopVirtualMachine", "listApis", "listAsyncJobs"}[r.IntN(5)]
				p = sign(p, "testsecret")
			}
			n.send([]string{"GET", "POST"}[r.IntN(2)], p) // checks the shape of every answer
		}
	})
	t.Run("ref-21 limits", func(t *testing.T) {
		n.call("listZones", params{"name": "a\x07b"}).fails(t, 431, 4350, "name")
		n.call("listZones", params{"name": strings.Repeat("x", 64<<10+1)}).fails(t, 413, 9999)
		many := params{}
		for i := range 1001 {
			many[fmt.Sprint("p", i)] = "x"
		}
		n.call("listZones", many).fails(t, 413, 9999)
		n.call("listZones", params{"response": "xml"}).fails(t, 431, 4350, "response")
		a := n.send("POST", sign(nil, "testsecret"))
		if a.fails(t, 432, 9999); a.key != "errorresponse" {
			t.Errorf("key %s", a.key)
		}
	})
	t.Run("ref-22 names", func(t *testing.T) {
		for _, c := range []struct {
			more   string
			status int
		}{
			{"details[0].key=k&details[0].value=v", 200}, {"details[0].cpuNumber=2", 200}, {"details[7].x=y", 200},
			{"details[a].x=y", 430}, {"details[0=x", 430}, {"details=x&details[0].a=b", 430}, {"ID=a&id=b", 430},
		} {
			p := params{"command": "deployVirtualMachine", "zoneid": zone1, "serviceofferingid": small, "templateid": debian12, "startvm": "false"}
			v, err := url.ParseQuery(c.more)
			if err != nil {
				t.Fatal(err)
			}
			for k := range v {
				p[k] = v.Get(k)
			}
			if a := n.send("POST", sign(p, "testsecret")); a.status != c.status {
				t.Errorf("%s: %s", c.more, a.raw)
			} else if a.status == 200 {
				n.wait(a.str("jobid"))
			}
		}
		_, j := n.deploy("", params{"startvm": "false", "details[0].cpuNumber": "2", "details[3].key": "k", "details[3].value": "v"})
		vm := n.wait(j).succeeds(t)
		if d := vm["details"].(map[string]any); len(d) != 2 || d["cpuNumber"] != "2" || d["k"] != "v" {
			t.Errorf("details %v", d)
		}
	})
	t.Run("ref-24 what clients add", func(t *testing.T) {
		p := sign(params{"command": "listZones", "filter": "id,name", "listall": "true", "projectid": nobody, "foo": "bar"}, "testsecret")
		n.send("GET", p).ok(t)
		p["filter"] = "id"
		n.send("GET", p).fails(t, 401, 0)
	})
	t.Run("ref-28 texts", func(t *testing.T) {
		data := func(size int) string { return base64.StdEncoding.EncodeToString(make([]byte, size)) }
		for _, method := range []string{"POST", "GET"} {
			p := params{"command": "deployVirtualMachine", "zoneid": zone1, "serviceofferingid": small, "templateid": debian12, "startvm": "false",
				"userdata": data(32 << 10), "displayname": "a b+c*d~e/(é)"}
			vm := n.wait(n.send(method, sign(p, "testsecret")).ok(t).str("jobid")).succeeds(t)
			if vm["displayname"] != "a b+c*d~e/(é)" {
				t.Errorf("displayname %v", vm["displayname"])
			}
			shown := n.call("listVirtualMachines", params{"id": vm["id"].(string), "userdata": "true"}).list("virtualmachine")[0]
			if shown["userdata"] != data(32<<10) {
				t.Error("userdata came back otherwise")
			}
			p["userdata"] = data(32<<10 + 1)
			n.send(method, sign(p, "testsecret")).fails(t, 431, 4350, "userdata")
		}
	})
	t.Run("trace", func(t *testing.T) {
		a := n.call("listZones", params{"id": "x"})
		if id := a.header.Get("X-Trace-Id"); len(id) != 32 || a.str("traceid") != id || a.header.Get("X-Description") == "" {
			t.Errorf("trace %q, %v", id, a.header)
		}
	})
}

// required fills what a command needs.
func required(vm string) map[string]params {
	const pod1 = "22222222-0000-4000-8000-000000000006"
	all := map[string]params{
		"deployVirtualMachine":           {"zoneid": zone1, "serviceofferingid": small, "templateid": debian12},
		"listTemplates":                  {"templatefilter": "all"},
		"changeServiceForVirtualMachine": {"id": vm, "serviceofferingid": small},
		"scaleVirtualMachine":            {"id": vm, "serviceofferingid": small},
		"migrateVirtualMachine":          {"virtualmachineid": vm},
		"findHostsForMigration":          {"virtualmachineid": vm},
		"createTags":                     {"resourceids": vm, "resourcetype": "UserVm", "tags[0].key": "a", "tags[0].value": "b"},
		"deleteTags":                     {"resourceids": vm, "resourcetype": "UserVm"},
		"login":                          {"username": "u", "password": "p"},
		"cancelAsyncJob":                 {"jobid": nobody},
		"createVMSchedule":               {"virtualmachineid": vm, "action": "stop", "schedule": "0 3 * * *", "timezone": "UTC"},
		"deleteVMSchedule":               {"virtualmachineid": vm},
		"listVMSchedule":                 {"virtualmachineid": vm},
		"addHost":                        {"url": "sim://x", "hypervisor": "KVM", "zoneid": zone1, "podid": pod1},
	}
	for _, verb := range []string{"start", "stop", "reboot", "destroy", "expunge", "recover", "update"} {
		all[verb+"VirtualMachine"] = params{"id": vm}
	}
	return all
}

func TestParameters(t *testing.T) {
	t.Parallel()
	n := start(t)
	vm, j := n.deploy("p", params{"startvm": "false"})
	n.wait(j)
	required := required(vm)
	apis := n.call("listApis", nil).ok(t).list("api")
	jobs := func() int {
		return len(n.call("listAsyncJobs", params{"jobstatus": "1"}).list("asyncjobs")) + len(n.call("listAsyncJobs", nil).list("asyncjobs"))
	}
	before := jobs()
	t.Run("ref-19 unknown ids", func(t *testing.T) {
		tried := 0
		for _, a := range apis {
			for _, x := range a["params"].([]any) {
				p, name := x.(map[string]any), a["name"].(string)
				param := p["name"].(string)
				isID := p["type"] == "uuid" || strings.HasSuffix(param, "ids")
				if !isID || param == "customid" || param == "customjobid" {
					continue
				}
				tried++
				for _, value := range []string{nobody, "nope"} {
					q := maps.Clone(required[name])
					if q == nil {
						q = params{}
					}
					if param == "resourceid" {
						q["resourcetype"] = "VirtualMachine"
					}
					q[param] = value
					n.call(name, q).fails(t, 431, 4350, "Invalid parameter "+param, " value="+value+" "+fixed)
				}
			}
		}
		if tried < 75 {
			t.Errorf("only %d parameters tried", tried)
		}
	})
	t.Run("ref-20 missing parameters", func(t *testing.T) {
		tried := 0
		for _, a := range apis {
			name := a["name"].(string)
			for _, x := range a["params"].([]any) {
				p := x.(map[string]any)
				if p["required"] != true {
					continue
				}
				q := maps.Clone(required[name])
				maps.DeleteFunc(q, func(k, _ string) bool { return k == p["name"] || strings.HasPrefix(k, p["name"].(string)+"[") })
				tried++
				n.call(name, q).fails(t, 431, 9999, "missing parameter "+p["name"].(string))
			}
		}
		if tried != 45 {
			t.Errorf("%d required parameters", tried)
		}
		if after := jobs(); after != before {
			t.Errorf("%d jobs, then %d", before, after)
		}
	})
	t.Run("ref-25 listApis", func(t *testing.T) {
		if len(apis) != 50 {
			t.Errorf("%d commands", len(apis))
		}
		for _, a := range apis { // as CloudMonkey reads them, unchecked
			_, _, _, _ = a["name"].(string), a["description"].(string), a["isasync"].(bool), a["related"].(string)
			for _, x := range a["params"].([]any) {
				p := x.(map[string]any)
				_, _, _, _, _, _ = p["name"].(string), p["type"].(string), p["required"].(bool), p["description"].(string), p["length"].(float64), p["related"].(string)
			}
			if len(a["response"].([]any)) == 0 {
				t.Errorf("%v tells nothing of its answer", a["name"])
			}
			for _, x := range a["response"].([]any) {
				r := x.(map[string]any)
				_, _, _ = r["name"].(string), r["type"].(string), r["description"].(string)
			}
		}
		if one := n.call("listApis", params{"name": "listZones"}).list("api"); len(one) != 1 {
			t.Errorf("%v", one)
		}
	})
}

func TestPaging(t *testing.T) {
	t.Parallel()
	n := start(t)
	list := func(p params) answer { return n.call("listVirtualMachines", p) }
	shows := func(p params, count, items int) {
		t.Helper()
		a := list(p).ok(t)
		if got := a.list("virtualmachine"); int(num(a.body["count"])) != count || len(got) != items {
			t.Errorf("%v: count %v, %d items; want %d, %d", p, a.body["count"], len(got), count, items)
		}
	}
	t.Run("ref-23 paging", func(t *testing.T) {
		if a := list(nil).ok(t); len(a.body) != 0 {
			t.Errorf("none: %s", a.raw)
		}
		n.fill(0, 1)
		shows(nil, 1, 1)
		n.fill(1, 500)
		shows(nil, 500, 500)
		n.fill(500, 501)
		shows(nil, 501, 500)
		shows(params{"pagesize": "-1"}, 501, 501)
		shows(params{"page": "2", "pagesize": "500"}, 501, 1)
		shows(params{"page": "0", "pagesize": "100"}, 501, 100)
		shows(params{"page": "-3", "pagesize": "100"}, 501, 100)
		shows(params{"page": "6", "pagesize": "100"}, 501, 1)
		shows(params{"keyword": "P50"}, 2, 2)
		shows(params{"name": "p7"}, 1, 1)
		shows(params{"state": "stopped", "page": "1", "pagesize": "7"}, 501, 7)
		if a := list(params{"page": "9", "pagesize": "100"}).ok(t); len(a.body) != 1 || num(a.body["count"]) != 501 {
			t.Errorf("past the end: %s", a.raw)
		}
		list(params{"page": "1"}).fails(t, 431, 9999, "page", "pagesize", "required")
		list(params{"pagesize": "10"}).fails(t, 431, 9999, "page", "pagesize", "required")
		list(params{"page": "1", "pagesize": "501"}).fails(t, 431, 4350)
		list(params{"page": "1", "pagesize": "-1"}).fails(t, 431, 4350)
		list(params{"page": "x", "pagesize": "10"}).fails(t, 431, 4350)
		a := n.call("listZones", params{"page": "2", "pagesize": "10"}).ok(t)
		if len(a.body) != 1 || num(a.body["count"]) != 1 {
			t.Errorf("zones: %s", a.raw)
		}
	})
}
