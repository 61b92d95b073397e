package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"unicode/utf8"
)

const maxDepth = 16

// rules are as strict as they can be.
var rules = &Rules{MaxBytes: 64 << 10, MaxDepth: maxDepth, NullIsAbsent: true}

func TestParse(t *testing.T) {
	o, err := rules.Parse([]byte(" {\"a\":\"x\",\"A\":\"y\",\"n\":null,\"o\":{\"b\":1e400},\"t\":[[1],{\"a\":2}],\"e\":\"\\u00e9\",\"u\":7,\"f\":true,\"l\":[\"p\",\"q\"]} \r\n"))
	if err != nil {
		t.Fatal(err)
	}
	if o.String("a") != "x" || o.String("e") != "é" || o.Uint("u", 7, 7) != 7 || !o.Bool("f") || fmt.Sprint(o.OptionalStrings("l", 2)) != "[p q]" {
		t.Errorf("read %+v", o.members)
	}
	for _, name := range []string{"n", "none"} {
		if o.Has(name) || o.Raw(name) != nil || o.OptionalString(name) != "" || o.OptionalBool(name) || o.OptionalStrings(name, 1) != nil {
			t.Errorf("%s is there", name)
		}
		if inner := o.OptionalObject(name); len(inner.members) != 0 || inner.OptionalString("x") != "" {
			t.Errorf("%s: %v", name, inner.members)
		}
	}
	if got := string(o.Object("o").Raw("b")); got != "1e400" {
		t.Errorf("o.b is %s", got)
	}
	if err := o.Err(); err != nil {
		t.Error(err)
	}
}

func TestReadErrors(t *testing.T) {
	for _, c := range []struct {
		read func(o Object)
		want string
	}{
		{func(o Object) { o.String("none") }, "none: expected a string"},
		{func(o Object) { o.OptionalString("u") }, "u: expected a string"},
		{func(o Object) { o.String("o") }, "o: expected a string"},
		{func(o Object) { o.Object("a") }, "a: expected an object"},
		{func(o Object) { o.OptionalObject("l") }, "l: expected an object"},
		{func(o Object) { o.Object("o").Object("p").String("q") }, "o.p.q: expected a string"},
		{func(o Object) { o.OptionalObject("none").String("q") }, "none.q: expected a string"},
		{func(o Object) { o.Bool("none") }, "none: expected true or false"},
		{func(o Object) { o.OptionalBool("a") }, "a: expected true or false"},
		{func(o Object) { o.Uint("none", 0, 9) }, "none: expected an integer from 0 to 9, in digits alone"},
		{func(o Object) { o.Uint("u", 8, 9) }, "u: expected an integer from 8 to 9, in digits alone"},
		{func(o Object) { o.Uint("u", 0, 6) }, "u: expected an integer from 0 to 6, in digits alone"},
		{func(o Object) { o.Uint("float", 0, 9) }, "float: expected an integer from 0 to 9, in digits alone"},
		{func(o Object) { o.Uint("minus", 0, 9) }, "minus: expected an integer from 0 to 9, in digits alone"},
		{func(o Object) { o.OptionalStrings("a", 9) }, "a: expected an array of strings"},
		{func(o Object) { o.OptionalStrings("l", 1) }, "l: expected at most 1 items"},
		{func(o Object) { o.OptionalStrings("m", 9) }, "m[1]: expected a string"},
		{func(o Object) { o.Object("o").Only("x", "y") }, `o: unknown field "p", expected x, y`},
		{func(o Object) { o.Only("a", "l", "m", "o", "u", "float", "minus") }, "<nil>"},
		{func(o Object) { o.String("u"); o.Fail("a", "later") }, "u: expected a string"},
	} {
		o, err := rules.Parse([]byte(`{"a":"x","l":["p","q"],"m":["p",1],"o":{"p":{}},"u":7,"float":1.0,"minus":-1}`))
		if err != nil {
			t.Fatal(err)
		}
		c.read(o)
		if got := fmt.Sprint(o.Err()); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"nothing":          {"", "empty"},
		"spaces":           {"  ", "empty"},
		"string":           {`"x"`, "not a JSON object"},
		"array":            {`[{}]`, "not a JSON object"},
		"null":             {`null`, "not a JSON object"},
		"two":              {`{}{}`, "after"},
		"more":             {`{} x`, "after"},
		"closing":          {`{}}`, "after"},
		"NUL":              {"{}\x00", "after"},
		"cut":              {`{"a":`, "cut short"},
		"comma":            {`{"a":1,}`, "byte"},
		"no colon":         {`{"a" 1}`, "byte"},
		"number as name":   {`{1:1}`, "byte"},
		"single quotes":    {`{'a':1}`, "byte"},
		"comment":          {`{/**/}`, "byte"},
		"leading zero":     {`{"a":01}`, "byte"},
		"NaN":              {`{"a":NaN}`, "byte"},
		"control":          {"{\"a\":\"\x01\"}", "byte"},
		"not UTF-8":        {"{\"a\":\"\xff\"}", "UTF-8"},
		"BOM":              {"\ufeff{}", "byte"},
		"twice":            {`{"a":1,"a":1}`, `"a" twice`},
		"twice, escaped":   {`{"a":1,"\u0061":1}`, `"a" twice`},
		"twice, null":      {`{"a":1,"a":null}`, `"a" twice`},
		"twice, inside":    {`{"x":[{"a":1,"b":[],"a":1}]}`, `"a" twice`},
		"twice, long":      {`{"` + strings.Repeat("s", 50) + `":1,"` + strings.Repeat("s", 50) + `":1}`, "a name twice"},
		"deep":             {`{"a":` + strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth) + `}`, "deeper"},
		"deep, unclosed":   {`{"a":` + strings.Repeat(`{"a":`, 3000), "deeper"},
		"wrong, inside":    {`{"a":{"b":tru}}`, "byte"},
		"brackets crossed": {`{"a":[}]`, "byte"},
		"too long":         {`{"a":"` + strings.Repeat("x", 64<<10) + `"}`, "expected at most 65536"},
	} {
		o, err := rules.Parse([]byte(c.in))
		if e, ok := errors.AsType[*Error](err); !ok || !strings.Contains(e.Error(), c.want) {
			t.Errorf("%s: %v, %v, want an error with %q", name, o.members, err, c.want)
		}
	}
	deepest := `{"a":` + strings.Repeat("[", maxDepth-1) + strings.Repeat("]", maxDepth-1) + `}`
	if _, err := rules.Parse([]byte(deepest)); err != nil {
		t.Errorf("at the limit of depth: %v", err)
	}
}

// TestDefaultDepth checks that the zero Rules bound the work of the check for duplicates,
// which reads every level once for each level around it.
func TestDefaultDepth(t *testing.T) {
	nested := func(levels int) []byte {
		return []byte(strings.Repeat(`{"a":`, levels) + "1" + strings.Repeat("}", levels))
	}
	for _, c := range []struct {
		rules  Rules
		levels int
		fine   bool
	}{
		{Rules{}, DefaultDepth, true},
		{Rules{}, DefaultDepth + 1, false},
		{Rules{}, 5000, false},
		{Rules{MaxDepth: 100}, 100, true},
		{Rules{Duplicates: RefuseReadDuplicates}, 100, true},
		{Rules{Duplicates: LastDuplicate}, 100, true},
	} {
		if _, err := c.rules.Parse(nested(c.levels)); (err == nil) != c.fine {
			t.Errorf("%+v, %d levels: %v", c.rules, c.levels, err)
		}
	}
}

func TestDuplicates(t *testing.T) {
	const top, inside, ignored = `{"a":1,"a":2}`, `{"o":{"a":1,"a":2}}`, `{"x":[{"a":1,"a":2}],"o":{}}`
	for _, c := range []struct {
		d    Duplicates
		in   string
		fine bool
	}{
		{RefuseDuplicates, top, false},
		{RefuseDuplicates, inside, false},
		{RefuseDuplicates, ignored, false},
		{RefuseReadDuplicates, top, false},
		{RefuseReadDuplicates, inside, false},
		{RefuseReadDuplicates, ignored, true},
		{LastDuplicate, top, true},
		{LastDuplicate, inside, true},
		{LastDuplicate, ignored, true},
	} {
		o, err := (&Rules{Duplicates: c.d}).Parse([]byte(c.in))
		if err == nil {
			o.OptionalObject("o")
			err = o.Err()
		}
		if (err == nil) != c.fine {
			t.Errorf("rule %d: %s: %v", c.d, c.in, err)
		}
		if err == nil && c.in == top && string(o.Raw("a")) != "2" {
			t.Errorf("%s counts, not the last", o.Raw("a"))
		}
	}
}

func TestManyNames(t *testing.T) {
	var b strings.Builder
	for i := range 500 {
		fmt.Fprintf(&b, `"%d":%d,`, i*7%500, i)
	}
	o, err := rules.Parse([]byte("{" + b.String() + `"last":0}`))
	if err != nil || o.Uint("7", 1, 1) != 1 || !o.Has("499") {
		t.Errorf("%v", err)
	}
	for _, name := range []string{"0", "7", "250", "493", "499"} {
		if _, err := rules.Parse([]byte("{" + b.String() + `"` + name + `":0}`)); err == nil || !strings.Contains(err.Error(), "twice") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestUnmarshal(t *testing.T) {
	type body struct {
		User string `json:"user"`
		N    int    `json:"n"`
		Deep struct {
			List []string `json:"list"`
		} `json:"deep"`
	}
	for in, want := range map[string]string{
		`{"user":"ada","deep":{"list":["a"]}}`:  "<nil>",
		`{"User":"ada","n":1,"n":2}`:            "<nil>",
		` `:                                     "empty, expected a JSON object",
		`{"user":"a`:                            "not JSON; is it cut short?",
		`user=ada`:                              "not JSON, from byte 1 on",
		`[]`:                                    "not a JSON object",
		`{"user":7}`:                            "user: expected a string, not a JSON number",
		`{"n":"x"}`:                             "n: expected a number, not a JSON string",
		`{"deep":{"list":{}}}`:                  "deep.list: expected an array, not a JSON object",
		`{"deep":[]}`:                           "deep: expected an object, not a JSON array",
		`{"users":1}`:                           `unknown field "users"`,
		`{"\n\"":1}`:                            `unknown field "\n\""`,
		`{"` + strings.Repeat("x", 41) + `":1}`: "unknown field with a very long name",
		`{}{}`:                                  "something after the JSON object",
		"{\"user\":\"\xff\"}":                   "not valid UTF-8",
	} {
		var v body
		if got := fmt.Sprint(Unmarshal([]byte(in), &v)); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

// FuzzParse compares Parse with encoding/json, asked token by token.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		`{}`, ` { } `, `{"a":1}`, `{"a":"x","b":[1,{"c":"}"}],"d":{"e":"]\""}}`, `{"a":1,"a":2}`, `{"\u0061":1,"a":2}`, `{"a\\":"\\\\\"","b":-1.5e3}`,
		`{"a":true,"b":null}x`, `{"a":1,}`, `{"a" : 1 , "b" : false }`, "{\"a\":\"\x80\"}", `[]`, `null`, `"x"`, ``, `{"a":1}{"b":2}`, `{"":""}`, "\ufeff{}", "{\n\"a\"\t:\r0}",
		`{"a":{"b":[1,{"c":2,"c":3}]}}`, `{"a":[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]}`, `{"a":"\ud800"}`, `{"a":":","b":{"c":1}}`, `{"a":"{","b":"\\"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, d := range []Duplicates{RefuseDuplicates, RefuseReadDuplicates, LastDuplicate} {
			r := &Rules{MaxDepth: maxDepth, Duplicates: d}
			got, err := r.Parse(bytes.Clone(b))
			want, wantErr := parseByTokens(b, d)
			if (err == nil) != (wantErr == nil) {
				t.Fatalf("%q, rule %d: %v, and the library says %v", b, d, err, wantErr)
			}
			if err != nil {
				continue
			}
			for name := range got.Names() {
				if want[name] == nil {
					t.Fatalf("%q: %v, not %q", b, got.members, want)
				}
			}
			for name, v := range want {
				if !bytes.Equal(got.Raw(name), v) {
					t.Fatalf("%q: %q is %q, not %q", b, name, got.Raw(name), v)
				}
				var s string
				if text := got.String(name); v[0] == '"' && (json.Unmarshal(v, &s) != nil || text != s) {
					t.Fatalf("%q: %q says %q, not %q", b, name, text, s)
				}
				_ = got.OptionalObject(name)
			}
		}
	})
}

func parseByTokens(b []byte, duplicates Duplicates) (map[string]json.RawMessage, error) {
	if !utf8.Valid(b) {
		return nil, errors.New("not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	o := make(map[string]json.RawMessage)
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, err
		}
		if _, twice := o[name.(string)]; twice && duplicates != LastDuplicate {
			return nil, fmt.Errorf("%q twice", name)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, err
		}
		inner := json.NewDecoder(bytes.NewReader(value))
		inner.UseNumber()
		if err := check(inner, 1, duplicates == RefuseDuplicates); err != nil {
			return nil, err
		}
		o[name.(string)] = value
	}
	if _, err := d.Token(); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("more than one JSON value")
	}
	return o, nil
}

// check refuses a value that is too deep and, if unique, one with a name twice.
func check(d *json.Decoder, depth int, unique bool) error {
	first, err := d.Token()
	if err != nil || first != json.Delim('{') && first != json.Delim('[') {
		return err
	}
	if depth++; depth > maxDepth {
		return errors.New("too deep")
	}
	seen := make(map[json.Token]bool)
	for d.More() {
		if first == json.Delim('{') {
			name, err := d.Token()
			if err != nil || seen[name] && unique {
				return fmt.Errorf("%v twice, %w", name, err)
			}
			seen[name] = true
		}
		if err := check(d, depth, unique); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
}

// BenchmarkParse compares Parse with a check of the names by json.Decoder.Token, for the
// claims of a token, the body of a login and an acknowledgement.
func BenchmarkParse(b *testing.B) {
	for _, c := range []struct {
		name, text string
		d          Duplicates
	}{
		{"claims", `{"iss":"usher","aud":"usher","sub":"guest:ada","sid":"6f1c2b0a9d3e4f5a6b7c8d9e0f102132","nid":"node-1","ep":1,"iat":1700000000,"nbf":1700000000,"exp":1700003600,"jti":"0011223344556677","ext":{"rank":"gold"}}`, RefuseReadDuplicates},
		{"login", `{"method":"guest","credentials":{"name":"ada"},"placement":{"region":"eu","group":"match-42"}}`, RefuseDuplicates},
		{"ack", `{"type":"ack","received":123456}`, LastDuplicate},
	} {
		text, r := []byte(c.text), &Rules{MaxDepth: maxDepth, Duplicates: c.d}
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.Parse(text); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(c.name+"/tokens", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				d := json.NewDecoder(bytes.NewReader(text))
				d.UseNumber()
				if err := check(d, 0, true); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
