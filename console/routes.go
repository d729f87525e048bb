package console

import (
	"encoding/json"
	"net/http"
	"reflect"
	"runtime/debug"
	"strings"
)

const (
	get  = http.MethodGet
	post = http.MethodPost
)

// allRoutes is the API. More specific paths win, as in [http.ServeMux].
func (c *Console) allRoutes() []route {
	type h = func(*Console, *http.Request) (*answer, error)
	read := func(path string, section func(*Console) bool, do h, doc string, query ...string) route {
		return route{method: get, path: "/v1" + path, section: section, do: do, doc: doc, query: query}
	}
	steer := func(path string, section func(*Console) bool, verb Verb, body any, do h, doc string) route {
		return route{method: post, path: "/v1" + path, section: section, verb: verb, body: body, do: do, doc: doc}
	}
	rs := []route{
		read("/meta", always, (*Console).meta, "what this console shows, and to whom"),
		read("/openapi.json", always, (*Console).getOpenAPI, "this document"),
		read("/overview", hasJobs, (*Console).getOverview, "what is worth knowing first"),
		read("/jobs", hasJobs, (*Console).listJobs, "jobs by filter; live ones unless state says otherwise", filters...),
		read("/jobs/stats", hasJobs, (*Console).getStats, "counts by state and pool, exact to a second"),
		read("/pools", hasJobs, (*Console).listPools, "pools of workers"),
		steer("/pools/{pool}/pause", hasJobs, "pause", emptyBody{}, (*Console).pausePool, "no job of the pool starts anywhere"),
		steer("/pools/{pool}/resume", hasJobs, "resume", emptyBody{}, (*Console).resumePool, "end a pause"),
		steer("/pools/{pool}/resize", hasJobs, "resize", resizeBody{}, (*Console).resizePool, "workers of this node"),
		read("/jobs/blocked", hasJobs, (*Console).getBlocked, "work that does not go on"),
		read("/jobs/{id}", hasJobs, (*Console).getJob, "a job; with wait until it has another revision than If-None-Match, or has ended", "wait"),
		read("/jobs/{id}/timeline", hasJobs, (*Console).getTimeline, "what became of a job, as spans"),
		read("/jobs/{id}/journal", hasJobs, (*Console).journal, "its journal", "limit", "after"),
		read("/jobs/{id}/children", hasJobs, (*Console).children, "its children, with counts"),
		{method: get, path: "/v1/jobs/{id}/result", section: hasJobs, stream: (*Console).result, doc: "the stored bytes", query: []string{"part"}},
		steer("/jobs/bulk", hasJobs, "bulk", bulkBody{}, (*Console).bulk, "a verb on many jobs"),
		steer("/jobs/{id}/cancel", hasJobs, "cancel", reasonBody{}, (*Console).cancel, "ask for its end"),
		steer("/jobs/{id}/retry", hasJobs, "retry", retryBody{}, (*Console).retry, "a new job like this one, which has failed or was cancelled"),
		steer("/jobs/{id}/priority", hasJobs, "priority", priorityBody{}, (*Console).priority, "lower runs first"),
		steer("/jobs/{id}/reschedule", hasJobs, "reschedule", atBody{}, (*Console).reschedule, "when a scheduled job is due"),
		steer("/jobs/{id}/hold", hasJobs, "hold", emptyBody{}, (*Console).hold, "park it until wake"),
		steer("/jobs/{id}/wake", hasJobs, "wake", emptyBody{}, (*Console).wake, "wake it"),
		steer("/jobs/{id}/fence", hasJobs, "fence", fenceBody{}, (*Console).fence, "fail it although its handler has not returned"),
		{method: get, path: "/v1/events", section: always, stream: (*Console).events, doc: "the live stream", query: []string{"topics", "job", "key", "kind", "after"}},
		read("/operations/{id}", hasJobs, (*Console).getOperation, "how a bulk goes on"),
		steer("/operations/{id}/cancel", hasJobs, "bulk", emptyBody{}, (*Console).cancelOperation, "stop a bulk"),
		read("/members", hasMembers, (*Console).listMembers, "nodes"),
		read("/members/owner", hasMembers, (*Console).owner, "which node owns a key, by the ring of those up or unknown", "key"),
		steer("/members/{id}/mark", hasGroup, "mark", markBody{}, (*Console).markMember, "maintenance, forced-down, or none"),
		steer("/members/{id}/confirm-down", hasGroup, "confirm-down", confirmBody{}, (*Console).confirmDown, "one that is silent is down"),
		steer("/members/{id}/forget", hasGroup, "forget", forgetBody{}, (*Console).forgetMember, "remove its record"),
		steer("/members/{id}/drain", canDrain, "drain", emptyBody{}, telling("drain"), "it takes nothing new and comes to rest"),
		steer("/members/{id}/resume", canResume, "resume", emptyBody{}, telling("resume"), "it takes work again"),
		read("/periodic", hasTasks, (*Console).listTasks, "periodic tasks of all nodes"),
		steer("/periodic/{task}/trigger", hasTasks, "trigger", nodeBody{}, onTask("trigger"), "run it now, on one node or on all that have it"),
		steer("/periodic/{task}/enable", hasTasks, "enable", nodeBody{}, onTask("enable"), "end a disable"),
		steer("/periodic/{task}/disable", hasTasks, "disable", nodeBody{}, onTask("disable"), "nothing of it starts"),
		read("/hosts", hasHosts, (*Console).listHosts, "hosts that machines run on"),
		read("/bus", hasBus, (*Console).listBus, "the bus, by node"),
		read("/leases", hasLeases, (*Console).listLeases, "sessions and named leases"),
		read("/queues", hasQueues, (*Console).listQueues, "keys with a line", queueFilters...),
		read("/queues/{kind}/{id}", hasQueues, (*Console).getQueue, "who holds a key, and who waits for it"),
		steer("/queues/{kind}/{id}/move", hasQueues, "move", moveBody{}, (*Console).moveQueue, "change the place of one that waits"),
		steer("/queues/{kind}/{id}/pause", hasQueues, "pause", emptyBody{}, pausing(true), "nothing new starts on this key"),
		steer("/queues/{kind}/{id}/resume", hasQueues, "resume", emptyBody{}, pausing(false), "end a pause of this key"),
		steer("/queues/{kind}/pause", hasQueues, "pause", emptyBody{}, pausing(true), "nothing new starts on any key of the kind"),
		steer("/queues/{kind}/resume", hasQueues, "resume", emptyBody{}, pausing(false), "end a pause of the kind"),
		steer("/queues/{kind}/{id}/limit", hasQueues, "limit", limitBody{}, (*Console).limitQueue, "turns of this key at once"),
		steer("/queues/{kind}/{id}/clear", hasQueues, "clear", clearBody{}, (*Console).clearQueue, "cancel all that wait"),
		steer("/queues/{kind}/limit", hasQueues, "limit", limitBody{}, (*Console).limitQueue, "turns of each key of a kind at once"),
	}
	return rs
}

// metaObject is for machines that look what they talk to.
type metaObject struct {
	Title     string   `json:"title"`
	Version   string   `json:"version"` // of drover
	Node      string   `json:"node"`
	Sections  []string `json:"sections"`
	ReadOnly  bool     `json:"read_only"`
	Principal string   `json:"principal"`
	Account   string   `json:"account,omitempty"`
	Now       stamp    `json:"now"`
}

func (c *Console) meta(r *http.Request) (*answer, error) {
	p := who(r.Context())
	return ok(metaObject{c.cfg.Title, version(), c.env.Node, c.sections(), p.ReadOnly, p.Name, p.Account, stamp(c.now())})
}

// version of the drover module that this program is built with.
func version() string {
	const module = "github.com/drover-cloud/drover"
	b, ok := debug.ReadBuildInfo()
	if !ok {
		return "(devel)"
	}
	for _, m := range b.Deps {
		if m.Path == module {
			return m.Version
		}
	}
	return b.Main.Version
}

func (c *Console) sections() []string {
	out := []string{}
	for _, s := range []struct {
		name string
		has  bool
	}{{"jobs", hasJobs(c)}, {"queues", hasQueues(c)}, {"members", hasMembers(c)}, {"leases", hasLeases(c)}, {"periodic", hasTasks(c)}, {"hosts", hasHosts(c)}, {"bus", hasBus(c)}} {
		if s.has {
			out = append(out, s.name)
		}
	}
	return out
}

func (c *Console) getOpenAPI(*http.Request) (*answer, error) {
	b, err := c.OpenAPI()
	return &answer{body: json.RawMessage(b)}, err
}

// OpenAPI is the document of the API's routes, version 3.1, for a host that merges it with its own.
func (c *Console) OpenAPI() ([]byte, error) {
	paths := map[string]map[string]any{}
	for _, r := range c.routes {
		op := map[string]any{
			"summary": r.doc, "operationId": operationID(r),
			"responses": map[string]any{
				"200":     map[string]any{"description": "done"},
				"default": map[string]any{"description": "a problem by RFC 9457", "content": map[string]any{"application/problem+json": map[string]any{}}},
			},
		}
		if ps := parametersOf(r); len(ps) > 0 {
			op["parameters"] = ps
		}
		if r.body != nil {
			op["requestBody"] = map[string]any{"content": map[string]any{"application/json": map[string]any{"schema": schemaOf(reflect.TypeOf(r.body))}}}
		}
		if paths[r.path] == nil {
			paths[r.path] = map[string]any{}
		}
		paths[r.path][strings.ToLower(r.method)] = op
	}
	return json.Marshal(map[string]any{
		"openapi": "3.1.0", "info": map[string]any{"title": c.cfg.Title, "version": "1"}, "paths": paths,
	})
}

func operationID(r route) string {
	return strings.ToLower(r.method) + strings.NewReplacer("/", "-", "{", "", "}", "", ".", "-").Replace(strings.TrimPrefix(r.path, "/v1"))
}

func parametersOf(r route) (ps []any) {
	add := func(in, name string, required bool) {
		ps = append(ps, map[string]any{"in": in, "name": name, "required": required, "schema": map[string]any{"type": "string"}})
	}
	for part := range strings.SplitSeq(r.path, "/") {
		if name, is := strings.CutPrefix(part, "{"); is {
			add("path", strings.TrimSuffix(name, "}"), true)
		}
	}
	for _, q := range r.query {
		add("query", q, false)
	}
	return ps
}

func schemaOf(t reflect.Type) map[string]any {
	switch t.Kind() {
	case reflect.Pointer:
		return schemaOf(t.Elem())
	case reflect.Struct:
		props := map[string]any{}
		for i := range t.NumField() {
			if name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ","); name != "" && name != "back" {
				props[name] = schemaOf(t.Field(i).Type)
			}
		}
		return map[string]any{"type": "object", "properties": props, "additionalProperties": false}
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return map[string]any{}
		}
		return map[string]any{"type": "array", "items": schemaOf(t.Elem())}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": schemaOf(t.Elem())}
	case reflect.Int, reflect.Int64:
		return map[string]any{"type": "integer"}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	}
	return map[string]any{"type": "string"}
}
