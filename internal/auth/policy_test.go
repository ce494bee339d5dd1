package auth

import (
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"slipway.dev/slipway/api/v1alpha1"
)

func TestPolicy(t *testing.T) {
	alice := person("alice", func(u *v1alpha1.User) {
		u.Spec.DisplayName, u.Spec.Email = "Alice Liddell", "a.liddell@example.org"
	})
	li := person("li", func(u *v1alpha1.User) { u.Spec.DisplayName = "李" })
	plain := v1alpha1.PasswordPolicy{MinLength: 12, MinClasses: 1}
	cases := map[string]struct {
		reason   string
		policy   v1alpha1.PasswordPolicy
		user     *v1alpha1.User
		password string
		// want is a part of the refusal; empty means that the password is fine.
		want string
	}{
		"Phrase":      {reason: "long and unknown", password: "correct horse battery"},
		"Random":      {reason: "long and unknown", password: "x7Kq-92mVfLp"},
		"Chinese":     {reason: "characters count, not bytes", password: "春眠不觉晓处处闻啼鸟夜来"},
		"ChineseFew":  {reason: "characters count, not bytes", password: "春眠不觉晓", want: "12 characters"},
		"Empty":       {reason: "nothing is no password", want: "12 characters"},
		"Short":       {reason: "one less than the policy asks", password: "x7Kq-92mVfL", want: "12 characters"},
		"Setting":     {reason: "the setting says how long", policy: v1alpha1.PasswordPolicy{MinLength: 20}, password: "x7Kq-92mVfLp", want: "20 characters"},
		"Classes":     {reason: "the setting says how mixed", policy: v1alpha1.PasswordPolicy{MinLength: 12, MinClasses: 3}, password: "correct horse battery", want: "3 of"},
		"ClassesFine": {reason: "the setting says how mixed", policy: v1alpha1.PasswordPolicy{MinLength: 12, MinClasses: 4}, password: "Correct horse 7"},
		"Huge":        {reason: "hashing it would cost too much", password: strings.Repeat("x7Kq-92mVfLp", 100), want: "1024 bytes"},
		"NotText":     {reason: "nobody can type it again", password: "x7Kq-92mVfLp\xff\xfe", want: "UTF-8"},
		"Known":       {reason: "in every list", password: "password1234", want: "everybody"},
		"KnownMixed":  {reason: "in every list", password: "P@ssw0rd2024!", want: "everybody"},
		"KnownPair":   {reason: "two well-known words", password: "AdminPassword", want: "everybody"},
		"KnownOurs":   {reason: "the first guess here", password: "slipway-admin", want: "everybody"},
		"KnownTheirs": {reason: "the default of another product", password: "kubeoperator@admin123", want: "everybody"},
		"Digits":      {reason: "a run", password: "123456789012", want: "everybody"},
		"Keyboard":    {reason: "a run on the keyboard", password: "qwertyuiop123", want: "everybody"},
		"Same":        {reason: "a repetition", password: "aaaaaaaaaaaaaa", want: "everybody"},
		"Repeats":     {reason: "a repetition", password: "abcabcabcabcabc", want: "everybody"},
		"Name":        {reason: "the person's name", password: "alice-77-xkcdq", want: "own name"},
		"NameUpper":   {reason: "the person's name in other letters", password: "77-ALICE-xkcdq", want: "own name"},
		"LastName":    {reason: "a part of the person's name", password: "77-liddell-xkc", want: "own name"},
		"Mail":        {reason: "the person's address", password: "a.liddell-x77q", want: "own name"},
		"ShortName":   {reason: "a short name is in many words", user: li, password: "vexillology-41"},
		"OnlyName":    {reason: "nothing but a short name", user: li, password: strings.Repeat("li", 8), want: "own name"},
		"OtherName":   {reason: "another's name is not in the way", user: li, password: "alice-77-xkcdq"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if tc.policy == (v1alpha1.PasswordPolicy{}) {
				tc.policy = plain
			}
			if tc.user == nil {
				tc.user = alice
			}
			err := checkPolicy(tc.policy, tc.password, tc.user)
			if tc.want == "" {
				if err != nil {
					t.Errorf("%s: %v", tc.reason, err)
				}
				return
			}
			if !apierrors.IsBadRequest(err) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s: %v, want %q in it", tc.reason, err, tc.want)
			}
			if err != nil && tc.password != "" && strings.Contains(err.Error(), tc.password) {
				t.Error("the refusal quotes the password")
			}
		})
	}
}
