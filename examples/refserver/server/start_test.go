package server

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drover-cloud/drover/examples/refserver/csapi"
	"github.com/drover-cloud/drover/internal/testkit"
)

func TestStart(t *testing.T) {
	t.Parallel()
	t.Run("ref-01 twice on one directory", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "data")
		var keys [2]string
		var ids [2][]string
		for i := range 2 {
			began := time.Now()
			cfg := parsed(t, "-data", dir, "-db", "", "-dev-key", "")
			s := startWith(t, cfg)
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("ready after %v", took)
			}
			file := filepath.Join(dir, "admin.env")
			info, err := os.Stat(file)
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Fatalf("%v %v", info, err)
			}
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			env := map[string]string{}
			for line := range strings.Lines(string(b)) {
				k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
				env[k] = v
			}
			keys[i] = env["DROVER_API_KEY"] + ":" + env["DROVER_API_SECRET"]
			p := params{"command": "listServiceOfferings", "apiKey": env["DROVER_API_KEY"], "response": "json"}
			p["signature"] = csapi.Sign(p, []byte(env["DROVER_API_SECRET"]))
			for _, o := range s.send("GET", p).ok(t).list("serviceoffering") {
				ids[i] = append(ids[i], o["id"].(string))
			}
			if !strings.HasPrefix(env["DROVER_ENDPOINT"], s.URL()) {
				t.Errorf("endpoint %s", env["DROVER_ENDPOINT"])
			}
			s.stop()
			if err := <-s.done; err != nil {
				t.Fatal(err)
			}
			s.done <- nil // for the cleanup
		}
		if keys[0] != keys[1] || len(keys[0]) < 80 || !slices.Equal(ids[0], ids[1]) || len(ids[0]) != 3 {
			t.Errorf("%v %v", keys, ids)
		}
		for _, name := range []string{"master.key", "drover.db"} {
			if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v %v", name, info, err)
			}
		}
	})
	t.Run("ref-03 flags", func(t *testing.T) {
		taken, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer taken.Close()
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct{ flag, value string }{
			{"listen", "8080"}, {"listen", "0.0.0.0:8080"}, {"listen", "example.org:1"}, {"listen", taken.Addr().String()},
			{"data", file + "/x"}, {"db", "mysql://x"}, {"db", "sqlite:"}, {"db", "sqlite:" + t.TempDir()},
			{"master-key", file}, {"master-key", file + ".missing"}, {"seed", file}, {"seed", file + ".missing"},
			{"hypervisor", "qemu:///system"}, {"hypervisor", "A=qemu:///system"}, {"hypervisor", "a=xen:///system"}, {"hypervisor", "a=qemu+ssh://h/system"}, {"hypervisor", "a=qemu:///system?x=y"},
			{"hypervisor", "a=test:///default?socket=" + file + ".missing"}, {"libvirt", "xen:///system"}, {"libvirt", "qemu+tcp://10.0.0.1/system"}, {"sim-hosts", "0"}, {"sim-hosts", "many"}, {"sim-latency", "-1s"}, {"sim-latency", "soon"},
			{"sim-fault", "start"}, {"sim-fault", "explode:*:error"}, {"sim-fault", "start:name=[:error"}, {"sim-fault", "start:*:slow=x"},
			{"workers", "0"}, {"hold", "26s"}, {"max-holds", "0"}, {"drain", "-1s"}, {"drain-delay", "2m"}, {"job-retention", "1s"}, {"dev-key", "nocolon"}, {"migrate", "maybe"},
			{"nonsense", "1"}, {"tls-key", file}, {"tls-client-ca", file}, {"rate", "-1"}, {"burst", "0"}, {"expunge-delay", "-1s"}, {"trusted-proxy", "x"}, {"enforce-timestamps", "=perhaps"}, {"node", "@" + file + ".missing"},
		} {
			args := []string{"-" + c.flag, c.value}
			if strings.HasPrefix(c.value, "=") {
				args = []string{"-" + c.flag + c.value}
			}
			err := begin(t, args...)
			var bad *FlagError
			if !errors.As(err, &bad) || bad.Flag != c.flag || strings.Contains(err.Error(), "\n") {
				t.Errorf("-%s %s: %v", c.flag, c.value, err)
			}
		}
		if err := begin(t, "-db", "postgres://127.0.0.1/x"); err == nil || !strings.HasPrefix(err.Error(), "-master-key: ") {
			t.Errorf("PostgreSQL without master key: %v", err)
		}
		key := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(key, []byte(strings.Repeat("0a", 32)), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := begin(t, "-db", "postgres://nobody@"+taken.Addr().String()+"/x?sslmode=disable&connect_timeout=1", "-master-key", key); err == nil ||
			!strings.HasPrefix(err.Error(), "-db: ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("PostgreSQL that does not answer: %v", err)
		}
	})
	t.Run("ref-03 the bus", func(t *testing.T) {
		for _, bad := range []string{
			"", "kafka://h", "nats", "nats://", "amqp://", "amqp://u:hunter2@:5672", "amqp://u:hunter2@h:port", "amqp://u:hunter2@a,b:1", "nats://u:hunter2@a:1,b:port", "amqp://u:hun%zz@h", "nats://h?x=hunter2",
		} {
			err := begin(t, "-bus="+bad)
			var at *FlagError
			if !errors.As(err, &at) || at.Flag != "bus" || strings.Contains(err.Error(), "hun") || strings.Contains(err.Error(), "\n") {
				t.Errorf("%q: %v", bad, err)
			}
		}
		for good, name := range map[string]string{"memory": "memory", "nats://u:p@a:1,nats://b:2,c": "nats", "amqp://h/v": "amqp", "amqps://u:p@h": "amqp"} {
			if c := parsed(t, "-bus", good); c.busName() != name {
				t.Errorf("%s is %s", good, c.busName())
			}
		}
	})
	t.Run("ref-03 newer schema, other master key", func(t *testing.T) {
		dir := t.TempDir()
		args := []string{"-data", dir, "-db", "", "-dev-key", ""}
		s := start(t, args...)
		s.stop()
		if err := <-s.done; err != nil {
			t.Fatal(err)
		}
		s.done <- nil // for the cleanup
		s.bun = testkit.OpenSQLite(t, filepath.Join(dir, "drover.db"))
		if _, err := s.bun.Exec(`UPDATE rs_schema SET version = 99`); err != nil {
			t.Fatal(err)
		}
		if err := begin(t, args...); err == nil || !strings.Contains(err.Error(), "newer") || !strings.HasPrefix(err.Error(), "-db: ") {
			t.Errorf("newer tables: %v", err)
		}
		if _, err := s.bun.Exec(`UPDATE rs_schema SET version = 4`); err != nil {
			t.Fatal(err)
		}
		if _, err := s.bun.Exec(`INSERT INTO drover_migration (version, name, sum, at) VALUES (99, 'x', 'x', 0)`); err != nil {
			t.Fatal(err)
		}
		if err := begin(t, args...); err == nil || !strings.HasPrefix(err.Error(), "-db: ") {
			t.Errorf("newer schema: %v", err)
		}
		if _, err := s.bun.Exec(`DELETE FROM drover_migration WHERE version = 99`); err != nil {
			t.Fatal(err)
		}
		other := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(other, []byte(strings.Repeat("0b", 32)), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := begin(t, append(args, "-master-key", other)...); err == nil || !strings.HasPrefix(err.Error(), "-master-key: ") {
			t.Errorf("other master key: %v", err)
		}
		if err := begin(t, "-data", t.TempDir(), "-db", "", "-migrate", "off"); err == nil || !strings.HasPrefix(err.Error(), "-db: ") {
			t.Errorf("no schema: %v", err)
		}
		if _, err := s.bun.Exec(`DELETE FROM drover_migration WHERE version = (SELECT max(version) FROM drover_migration)`); err != nil {
			t.Fatal(err)
		}
		if err := begin(t, append(args, "-migrate", "off")...); err == nil || !strings.HasPrefix(err.Error(), "-db: ") || !strings.Contains(err.Error(), "-migrate auto") {
			t.Errorf("a schema that is behind: %v", err)
		}
		if err := begin(t, "-data", t.TempDir(), "-db", "", "-migrate", "only"); err != nil {
			t.Errorf("-migrate only: %v", err)
		}
	})
	t.Run("ref-03 a table is missing", func(t *testing.T) {
		dir := t.TempDir()
		if err := begin(t, "-data", dir, "-db", "", "-migrate", "only"); err != nil {
			t.Fatal(err)
		}
		if _, err := testkit.OpenSQLite(t, filepath.Join(dir, "drover.db")).Exec(`DROP TABLE drover_session`); err != nil {
			t.Fatal(err)
		}
		for _, migrate := range []string{"auto", "off", "only"} {
			err := begin(t, "-data", dir, "-db", "", "-migrate", migrate)
			if err == nil || !strings.HasPrefix(err.Error(), "-db: ") || !strings.Contains(err.Error(), "drover_session is missing") {
				t.Errorf("-migrate %s: %v", migrate, err)
			}
		}
	})
	t.Run("ref-03 a value that does not parse", func(t *testing.T) {
		none := func(string) string { return "" }
		for _, c := range []struct {
			args []string
			env  string
			want string
		}{
			{[]string{"-sim-hosts", "two"}, "", `-sim-hosts: "two": want a whole number`},
			{[]string{"-sim-hosts", "99999999999999999999"}, "", `-sim-hosts: "99999999999999999999": want a whole number`},
			{nil, "t\"w", `-sim-hosts: DROVER_SIM_HOSTS: "t\"w": want a whole number`},
			{[]string{"-hold", "20"}, "", `-hold: "20": want a duration such as 300ms, 20s or 1h30m`},
			{[]string{"-enforce-timestamps=maybe"}, "", `-enforce-timestamps: "maybe": want true or false`},
			{[]string{"-sim-fault", "start"}, "", `-sim-fault: `},
		} {
			getenv := none
			if c.env != "" {
				getenv = func(k string) string { return map[string]string{"DROVER_SIM_HOSTS": c.env}[k] }
			}
			if _, err := Parse(c.args, getenv, nil, io.Discard); err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("%q %q: %v", c.args, c.env, err)
			}
		}
	})
	t.Run("environment and files", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "dev")
		if err := os.WriteFile(file, []byte("k:s\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		env := map[string]string{"DROVER_SIM_HOSTS": "7", "DROVER_DEV_KEY": "@" + file, "DROVER_WORKERS": "3"}
		cfg, err := Parse([]string{"-workers", "5"}, func(k string) string { return env[k] }, seedFile(t), io.Discard)
		if err != nil || cfg.SimHosts != 7 || cfg.DevKey.Key != "k" || cfg.DevKey.Secret != "s" || cfg.Workers != 5 ||
			!slices.Equal(cfg.FromEnv, []string{"DROVER_DEV_KEY", "DROVER_SIM_HOSTS"}) {
			t.Errorf("%+v %v", cfg, err)
		}
		env["DROVER_WORKERS"], env["DROVER_SIM_HOSTS"] = "", "x"
		if _, err := Parse(nil, func(k string) string { return env[k] }, nil, io.Discard); err == nil || !strings.HasPrefix(err.Error(), "-sim-hosts: ") {
			t.Errorf("%v", err)
		}
		if _, err := Parse([]string{"-h"}, noEnv, nil, io.Discard); !errors.Is(err, flag.ErrHelp) {
			t.Errorf("%v", err)
		}
	})
}

// begin starts a server that is expected not to, and answers why.
func begin(t *testing.T, args ...string) error {
	t.Helper()
	cfg, err := Parse(append([]string{"-listen", "127.0.0.1:0", "-data", t.TempDir(), "-db", "sqlite::memory:"}, args...), noEnv, seedFile(t), io.Discard)
	if err != nil {
		return err
	}
	cfg.Stdout = io.Discard
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	s, err := New(ctx, cfg)
	if err != nil {
		return err
	}
	return s.Run(ctx)
}

func TestModules(t *testing.T) {
	t.Run("ref-02 the root module", func(t *testing.T) {
		b, err := os.ReadFile("../../../go.mod")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"cloudstack", "chromedp", "river"} {
			if strings.Contains(string(b), name) {
				t.Errorf("go.mod names %s", name)
			}
		}
	})
}

// Members of objects, with their JSON types: s string, n number, b boolean, l list, o object; ? only when they have a value.
var objects = map[string]string{
	"virtualmachine": `id:s name:s displayname:s state:s account:s domainid:s domain:s userid:s username:s created:d lastupdated?:d zoneid:s zonename:s
		templateid:s templatename:s templatedisplaytext:s serviceofferingid:s serviceofferingname:s cpunumber:n cpuspeed:n memory:n hypervisor:s instancename:s
		haenable:b displayvm:b passwordenabled:b isdynamicallyscalable:b group?:s hostid?:s hostname?:s nic:l securitygroup:l affinitygroup:l tags:l details:o
		userdata?:s jobid?:s jobstatus?:n`,
	"nic": `id:s networkid:s networkname:s ipaddress:s netmask:s gateway:s macaddress:s isdefault:b type:s traffictype:s deviceid:s`,
	"host": `id:s name:s state:s resourcestate:s type:s ipaddress:s zoneid:s zonename:s podid:s podname:s clusterid:s clustername:s hypervisor:s version:s
		cpunumber:n cpuspeed:n cpuused:s cpuallocated:s memorytotal:n memoryallocated:n memoryused:n managementserverid?:s managementservername?:s
		lastpinged?:d created:d hahost:b hosttags?:s annotation?:s suitableformigration?:b hasenoughcapacity?:b requiresStorageMotion?:b jobid?:s jobstatus?:n`,
	"pod":     `id:s name:s zoneid:s zonename:s allocationstate:s`,
	"cluster": `id:s name:s zoneid:s zonename:s podid:s podname:s hypervisortype:s clustertype:s allocationstate:s managedstate:s`,
	"volume": `id:s name:s type:s state:s zoneid:s zonename:s account:s domainid:s storagetype:s size:n deviceid:n created:d virtualmachineid?:s vmname?:s
		vmstate?:s tags:l`,
	"event": `id:s type:s level:s state:s description:s account:s domain:s domainid:s domainpath:s username:s created:d resourceid?:s resourcetype?:s
		archived:b jobid?:s parentid?:s`,
	"tag":              `key:s value:s resourceid:s resourcetype:s account:s domain:s domainid:s`,
	"managementserver": `id:s name:s state:s version:s serviceip:s ipaddress:s lastserverstart:d agentscount:n pendingjobscount:n`,
	"shutdown":         `managementserverid:s readyforshutdown:b shutdowntriggered:b maintenanceinitiated:b pendingjobscount:n agentscount:n state:s`,
	"user":             `id:s username:s account:s accountid:s domain:s domainid:s firstname:s lastname:s email:s state:s accounttype:n created:d`,
	"account":          `id:s name:s domain:s domainid:s state:s accounttype:n isdefault:b created:d`,
	"capability": `cloudstackversion:s securitygroupsenabled:b apilimitmax:n apilimitinterval:n dynamicrolesenabled:b kvmsnapshotenabled:b
		defaultuipagesize:n allowuserviewdestroyedvm:b`,
	"eventtype":       `name:s`,
	"vmschedule":      `id:s virtualmachineid:s action:s schedule:s timezone:s description:s enabled:b startdate?:d enddate?:d created:d`,
	"zone":            `id:s name:s networktype:s allocationstate:s securitygroupsenabled:b localstorageenabled:b tags:l`,
	"serviceoffering": `id:s name:s displaytext:s cpunumber:n cpuspeed:n memory:n created:d iscustomized:b offerha:b issystem:b`,
	"template": `id:s name:s displaytext:s hypervisor:s zoneid:s zonename:s status:s isready:b ispublic:b isfeatured:b size:n created:d ostypename:s
		templatetype:s tags:l`,
	"network": `id:s name:s displaytext:s zoneid:s zonename:s type:s traffictype:s state:s cidr:s gateway:s netmask:s issystem:b canusefordeploy:b tags:l`,
	"asyncjobs": `jobid:s cmd:s jobstatus:n jobprocstatus:n jobresultcode:n created:d accountid:s account:s domainid:s domainpath:s userid:s
		managementserverid:s managementservername:s jobinstancetype:s jobinstanceid:s completed?:d jobresulttype?:s jobresult?:o`,
	"api": `name:s description:s isasync:b since:s related:s params:l response:l`,
}

func hasShape(t *testing.T, kind string, m map[string]any) {
	t.Helper()
	known := map[string]bool{}
	for f := range strings.FieldsSeq(objects[kind]) {
		name, typ, _ := strings.Cut(f, ":")
		name, optional := strings.CutSuffix(name, "?")
		known[name] = true
		v, there := m[name]
		if !there {
			if !optional {
				t.Errorf("%s: %s is missing", kind, name)
			}
			continue
		}
		got := map[string]string{"string": "s", "float64": "n", "bool": "b", "[]interface {}": "l", "map[string]interface {}": "o"}[fmt.Sprintf("%T", v)]
		if typ == "d" && got == "s" {
			if at, err := time.Parse("2006-01-02T15:04:05-0700", v.(string)); err == nil && strings.HasSuffix(v.(string), "+0000") && at.Year() > 2000 {
				got = "d"
			}
		}
		if got != typ {
			t.Errorf("%s: %s is %v, want %s", kind, name, v, typ)
		}
	}
	for name := range m {
		if !known[name] {
			t.Errorf("%s: %s is in no table", kind, name)
		}
	}
}

func TestObjects(t *testing.T) {
	t.Parallel()
	n := start(t, "-sim-latency", "200ms")
	t.Run("ref-27 objects", func(t *testing.T) {
		id, j := n.deploy("o", params{"group": "g", "userdata": "aGVsbG8="})
		check := func(kind, command string, p params) {
			t.Helper()
			l := n.call(command, p).ok(t).list(kind)
			if len(l) == 0 {
				t.Errorf("%s: empty", command)
			}
			for _, m := range l {
				hasShape(t, kind, m)
			}
		}
		check("asyncjobs", "listAsyncJobs", nil)
		check("virtualmachine", "listVirtualMachines", nil)
		hasShape(t, "asyncjobs", n.call("queryAsyncJobResult", params{"jobid": j}).body)
		a := n.wait(j)
		hasShape(t, "asyncjobs", a.body)
		vm := a.succeeds(t)
		hasShape(t, "virtualmachine", vm)
		hasShape(t, "nic", vm["nic"].([]any)[0].(map[string]any))
		check("virtualmachine", "listVirtualMachines", params{"userdata": "true"})
		check("host", "listHosts", nil)
		check("host", "listHosts", params{"virtualmachineid": id})
		check("zone", "listZones", nil)
		check("serviceoffering", "listServiceOfferings", nil)
		check("template", "listTemplates", params{"templatefilter": "all"})
		check("network", "listNetworks", nil)
		n.run("createTags", params{"resourceids": id, "resourcetype": "UserVm", "tags[0].key": "k", "tags[0].value": "v"})
		for kind, command := range map[string]string{
			"pod": "listPods", "cluster": "listClusters", "volume": "listVolumes", "event": "listEvents", "tag": "listTags", "user": "listUsers",
			"account": "listAccounts", "managementserver": "listManagementServers", "eventtype": "listEventTypes",
		} {
			check(kind, command, nil)
		}
		n.call("createVMSchedule", params{"virtualmachineid": id, "action": "stop", "schedule": "0 3 * * *", "timezone": "UTC", "startdate": "2038-01-01", "enddate": "2038-01-02"}).ok(t)
		check("vmschedule", "listVMSchedule", params{"virtualmachineid": id})
		check("host", "findHostsForMigration", params{"virtualmachineid": id})
		hasShape(t, "capability", n.call("listCapabilities", nil).ok(t).body["capability"].(map[string]any))
		ms := n.call("listManagementServers", nil).list("managementserver")[0]["id"].(string)
		hasShape(t, "shutdown", n.call("readyForShutdown", params{"managementserverid": ms}).ok(t).body["readyforshutdown"].(map[string]any))
		check("api", "listApis", nil)
	})
}
