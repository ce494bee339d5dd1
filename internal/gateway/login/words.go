package login

// words are the texts of the pages in one language.
type words struct {
	SetupTitle, SetupText, LoginTitle, ChangeTitle, ChangeText, InText, WaitText, DoneText   string
	User, Password, Current, New, Repeat, SetPassword, LogIn, LogOut, Directory, ToLogin     string
	Script, Differs, Wrong, WrongCurrent, Later, Unreachable, BadLink, Used, NotSetUp, Again string
}

func wordsOf(language string) words {
	if language == "zh" {
		return words{
			SetupTitle: "首次设置", SetupText: "为管理员 admin 设置密码。此链接只能使用一次。",
			LoginTitle: "登录", ChangeTitle: "修改密码", ChangeText: "继续之前，请先设置新密码。",
			InText: "已登录：", WaitText: "此服务器尚未完成首次设置。请打开服务器启动时打印的链接。", DoneText: "此服务器已完成首次设置。",
			User: "用户名", Password: "密码", Current: "当前密码", New: "新密码", Repeat: "再次输入新密码",
			SetPassword: "设置密码", LogIn: "登录", LogOut: "退出登录", Directory: "使用组织账号登录", ToLogin: "前往登录",
			Script: "此页面需要 JavaScript。", Differs: "两次输入的密码不一致。", Wrong: "用户名或密码错误。", WrongCurrent: "当前密码错误。",
			Later: "尝试次数过多，请稍后再试。", Unreachable: "无法连接服务器，请重试。", BadLink: "此链接无效或已过期。请重新启动服务器以获取新链接。",
			Used: "此链接已被使用，请直接登录。", NotSetUp: "此服务器尚未完成首次设置。", Again: "操作失败：",
		}
	}
	return words{
		SetupTitle: "First run", SetupText: "Choose a password for the administrator, admin. This link works once.",
		LoginTitle: "Log in", ChangeTitle: "Change password", ChangeText: "Choose a new password before you go on.",
		InText: "You are logged in as", WaitText: "This server is not set up yet. Open the link that it printed at its start.", DoneText: "This server is set up already.",
		User: "User name", Password: "Password", Current: "Current password", New: "New password", Repeat: "New password again",
		SetPassword: "Set password", LogIn: "Log in", LogOut: "Log out", Directory: "Log in with your organisation's account", ToLogin: "Log in",
		Script: "This page needs JavaScript.", Differs: "The two passwords differ.", Wrong: "Wrong user name or password.", WrongCurrent: "The current password is wrong.",
		Later: "Too many tries; try again later.", Unreachable: "Cannot reach the server; try again.", BadLink: "This link is not valid, or has expired. Restart the server: it prints a new one.",
		Used: "This link was used already; log in.", NotSetUp: "This server is not set up yet.", Again: "That did not work:",
	}
}
