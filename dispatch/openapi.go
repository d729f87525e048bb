package dispatch

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// Info of an OpenAPI document.
type Info struct{ Title, Version string }

// object is a JSON object; encoding/json writes its members in order of their names.
type object map[string]any

// chainCodes are those that the chain itself may give for any command.
var chainCodes = []Code{Malformed, Invalid, NotFound, TooLarge, UnknownCommand, Unauthenticated, Forbidden, RateLimited, TimedOut, Internal}

// asyncCodes come on top of async commands.
var asyncCodes = []Code{IdempotencyMismatch, Draining, Lost}

// OpenAPI describes the commands that are not Hidden as OpenAPI 3.1: POST /v1/commands/{name} each, lists GET too, with
// problem+json for every code they may give. A version that is not the newest has the path /v1/commands/{name}@{version}. The same
// registry gives the same bytes.
func (r *Registry) OpenAPI(i Info) ([]byte, error) {
	r.seal()
	paths, schemas := object{}, object{"Problem": problemSchema(), "Accepted": acceptedSchema(), "PendingJob": pendingSchema()}
	for name, versions := range r.commands {
		for n, c := range versions {
			if c.hidden {
				continue
			}
			id := name
			if n > 0 {
				id += "@" + c.version
			}
			paths["/v1/commands/"+id] = c.path(id)
			schemas["Input."+schemaName(id)] = c.schema.input()
			schemas["Result."+schemaName(id)] = fieldsSchema(c.info.Response)
		}
	}
	doc := object{
		"openapi": "3.1.0", "info": object{"title": i.Title, "version": i.Version}, "paths": paths,
		"components": object{"schemas": schemas, "responses": problemResponses(), "parameters": object{
			"IdempotencyKey": object{"name": "Idempotency-Key", "in": "header", "description": "the same key again gets the first answer",
				"schema": object{"type": "string", "minLength": 1, "maxLength": 255}},
			"Prefer": object{"name": "Prefer", "in": "header", "description": "wait=N: the finished job, if it ends within N seconds, at most 60", "schema": object{"type": "string"}},
		}},
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(doc); err != nil {
		return nil, Errorf(Internal, "dispatch: openapi: %w", err)
	}
	return b.Bytes(), nil
}

// schemaName makes an id fit for the name of a component.
func schemaName(id string) string { return strings.ReplaceAll(id, "@", "-") }

func component(kind, name string) object { return object{"$ref": "#/components/" + kind + "/" + name} }

// path describes one command.
func (c *command) path(id string) object {
	op := func(operation string) object {
		o := object{"operationId": operation, "summary": c.info.Doc, "responses": c.responses(id), "x-mode": c.info.Mode}
		if c.info.Deprecated != "" {
			o["deprecated"], o["description"] = true, "use "+c.info.Deprecated
		}
		if len(c.info.Roles) > 0 {
			o["x-roles"] = c.info.Roles
		}
		return o
	}
	post := op(id)
	post["requestBody"] = object{"required": len(c.schema.required()) > 0, "content": object{"application/json": object{"schema": component("schemas", "Input."+schemaName(id))}}}
	if c.info.Async {
		post["parameters"] = []object{component("parameters", "IdempotencyKey"), component("parameters", "Prefer")}
	}
	item := object{"post": post}
	if c.info.Mode == "list" {
		get := op(id + ".get")
		get["parameters"] = c.schema.query()
		item["get"] = get
	}
	return item
}

func (c *command) responses(id string) object {
	result := object{"application/json": object{"schema": component("schemas", "Result."+schemaName(id))}}
	responses := object{}
	switch {
	case c.info.Async:
		job := object{"application/json": object{"schema": component("schemas", "Accepted")}}
		responses["202"] = object{"description": "accepted as a job", "content": job, "headers": object{
			"Location": object{"description": "of the job", "schema": object{"type": "string"}},
		}}
		responses["200"] = object{"description": "the finished job, if that was waited for", "content": job}
	case c.info.Mode == "list":
		responses["200"] = object{"description": "a page", "content": object{"application/json": object{"schema": object{
			"type": "object", "required": []string{"items", "total"}, "properties": object{
				"items": object{"type": "array", "items": component("schemas", "Result."+schemaName(id))},
				"total": object{"type": "integer"}, "next": object{"type": "string"},
				"jobs": object{"type": "object", "additionalProperties": component("schemas", "PendingJob")},
			},
		}}}}
	default:
		responses["200"] = object{"description": "done", "content": result}
	}
	codes := slices.Concat(chainCodes, c.info.Errors)
	if c.info.Async {
		codes = append(codes, asyncCodes...)
	}
	for _, code := range codes {
		status := strconv.Itoa(code.Info().Status)
		responses[status] = component("responses", "Problem"+status)
	}
	return responses
}

// problemResponses are one per status, each with the codes it stands for.
func problemResponses() object {
	by := map[string][]Code{}
	for _, i := range Codes() {
		by[strconv.Itoa(i.Status)] = append(by[strconv.Itoa(i.Status)], i.Code)
	}
	out := object{}
	for status, codes := range by {
		words := make([]string, len(codes))
		for i, c := range codes {
			words[i] = string(c)
		}
		out["Problem"+status] = object{"description": strings.Join(words, ", "), "content": object{"application/problem+json": object{"schema": object{
			"allOf": []object{component("schemas", "Problem"), {"properties": object{"code": object{"enum": codes}}}},
		}}}}
	}
	return out
}

func problemSchema() object {
	text := object{"type": "string"}
	return object{
		"type": "object", "description": "RFC 9457", "required": []string{"type", "title", "status", "code", "retryable"},
		"properties": object{
			"type": object{"type": "string", "format": "uri"}, "title": text, "status": object{"type": "integer"}, "detail": text, "instance": text,
			"code": text, "retryable": object{"type": "boolean"}, "retry_after_ms": object{"type": "integer"}, "trace_id": text,
			"errors": object{"type": "array", "items": object{"type": "object", "required": []string{"parameter", "reason"}, "properties": object{
				"parameter": text, "reason": text, "value": text, "limit": text,
			}}},
		},
	}
}

func acceptedSchema() object {
	text := object{"type": "string"}
	return object{
		"type": "object", "description": "a job", "required": []string{"id", "kind", "state"},
		"properties": object{
			"id": text, "kind": text, "entity": text, "resource": text, "result": true, "error": component("schemas", "Problem"),
			"state": object{"type": "string", "enum": []string{"scheduled", "waiting", "ready", "running", "parked", "succeeded", "failed", "cancelled"}},
		},
	}
}

func pendingSchema() object {
	text := object{"type": "string"}
	return object{"type": "object", "required": []string{"job_id", "state", "command"}, "properties": object{"job_id": text, "state": text, "command": text}}
}

// input describes the parameters as one JSON object.
func (s *schema) input() object {
	props := object{}
	for _, p := range s.params {
		props[p.name] = p.json()
	}
	o := object{"type": "object", "properties": props, "additionalProperties": false}
	if req := s.required(); len(req) > 0 {
		o["required"] = req
	}
	return o
}

func (s *schema) required() (names []string) {
	for _, p := range s.params {
		if p.required && p.roles == nil {
			names = append(names, p.name)
		}
	}
	return names
}

// query describes the parameters of a GET; structures cannot be given there but by their own names, which are not listed.
func (s *schema) query() []object {
	all := []object{}
	for _, p := range s.params {
		if p.kind == kMap || p.kind == kStruct || p.kind == kStructs {
			continue
		}
		o := object{"name": p.name, "in": "query", "schema": p.json(), "description": p.doc}
		if p.required && p.roles == nil {
			o["required"] = true
		}
		if p.kind == kList {
			o["style"], o["explode"] = "form", false
		}
		all = append(all, o)
	}
	return all
}

// json is the JSON schema of a parameter.
func (p *param) json() object {
	o := p.jsonType()
	if p.doc != "" {
		o["description"] = p.doc
	}
	if p.hasDef && !p.secret {
		o["default"] = p.jsonDefault()
	}
	if p.roles != nil {
		o["x-roles"] = p.roles
	}
	if p.entity != "" {
		o["x-entity"] = p.entity
	}
	if p.secret {
		o["writeOnly"] = true
	}
	return o
}

func (p *param) jsonType() object {
	lo, hi := "minimum", "maximum"
	var o object
	switch p.kind {
	case kBool:
		return object{"type": "boolean"}
	case kInt, kUint:
		o = object{"type": "integer"}
	case kFloat:
		o = object{"type": "number"}
	case kTime:
		return object{"type": "string", "format": map[bool]string{true: "date", false: "date-time"}[p.layout == "date"]}
	case kUUID:
		if p.minusone {
			return object{"type": "string"}
		}
		return object{"type": "string", "format": "uuid"}
	case kHost:
		return object{"type": "string", "maxLength": 63, "pattern": "^[A-Za-z]([A-Za-z0-9-]*[A-Za-z0-9])?$"}
	case kList:
		o, lo, hi = object{"type": "array", "items": p.elem.jsonType()}, "minItems", "maxItems"
	case kMap:
		return object{"type": "object", "additionalProperties": object{"type": "string"}}
	case kStruct:
		return p.sub.input()
	case kStructs:
		return object{"type": "array", "items": p.sub.input()}
	case kString, kSecret:
		o, lo, hi = object{"type": "string", "maxLength": defaultMaxString}, "minLength", "maxLength"
		if p.oneOf != nil {
			o["enum"] = p.oneOf
		}
		if p.pattern != nil {
			o["pattern"] = p.pattern.String()
		}
	case kBytes:
		return object{"type": "string", "contentEncoding": "base64"}
	default:
		return object{"type": "string"}
	}
	if p.min != nil {
		o[lo] = *p.min
	}
	if p.max != nil {
		o[hi] = *p.max
	}
	return o
}

// jsonDefault is the default as its type says.
func (p *param) jsonDefault() any {
	switch p.kind {
	case kBool, kInt, kUint, kFloat:
		if json.Valid([]byte(p.def)) {
			return json.RawMessage(p.def)
		}
	case kList:
		return strings.Split(p.def, ",")
	}
	return p.def
}

// fieldsSchema describes a result by what listings tell of it.
func fieldsSchema(fields []FieldInfo) object {
	if len(fields) == 0 {
		return object{}
	}
	props := object{}
	for _, f := range fields {
		o := object{}
		switch f.Type {
		case "boolean":
			o["type"] = "boolean"
		case "integer", "long", "short":
			o["type"] = "integer"
		case "float", "double":
			o["type"] = "number"
		case "date":
			o["type"] = "string"
		case "list":
			o["type"], o["items"] = "array", fieldsSchema(f.Fields)
		case "map":
			o = fieldsSchema(f.Fields)
			o["type"] = "object"
		default:
			o["type"] = "string"
		}
		if f.Doc != "" {
			o["description"] = f.Doc
		}
		props[f.Name] = o
	}
	return object{"type": "object", "properties": props}
}
