var t={},s="";export{s as css,t as extras};
