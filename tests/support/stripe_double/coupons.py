"""What makes things cheaper or dearer: coupons, promotion codes, tax rates."""

from __future__ import annotations

from typing import Any

from support.stripe_double.catalog import changed
from support.stripe_double.refusals import Refused
from support.stripe_double.routing import Call, listed, route

Json = dict[str, Any]


@route("POST", "/v1/coupons", "CouponCreateParams")
def create_coupon(call: Call) -> Json:
    account, params = call.account, {key: value for key, value in call.params.items() if key != "expand"}
    if ("percent_off" in params) == ("amount_off" in params):
        raise Refused("You must pass either `percent_off` or `amount_off`.", param="percent_off")
    coupon_id = params.pop("id", None) or account.new_id("", 8)[1:]
    if coupon_id in account.objects:
        raise Refused("Coupon already exists.", code="resource_already_exists", param="id")
    coupon = account.put(
        {
            "duration": "once",
            "metadata": {},
            **params,
            "id": coupon_id,
            "object": "coupon",
            "created": account.now(),
            "times_redeemed": 0,
            "valid": True,
        }
    )
    account.emit("coupon.created", coupon)
    return coupon


@route("GET", "/v1/coupons/{id}", "CouponRetrieveParams")
def get_coupon(call: Call) -> Json:
    return call.account.find("coupon", call.id)


@route("GET", "/v1/coupons", "CouponListParams")
def list_coupons(call: Call) -> Json:
    return listed(call, call.account.rows("coupon"))


@route("DELETE", "/v1/coupons/{id}", "CouponDeleteParams")
def delete_coupon(call: Call) -> Json:
    call.account.emit("coupon.deleted", call.account.find("coupon", call.id))
    return call.account.drop("coupon", call.id)


@route("POST", "/v1/promotion_codes", "PromotionCodeCreateParams")
def create_promotion_code(call: Call) -> Json:
    account, params = call.account, call.params
    promotion = params["promotion"]
    account.named("coupon", promotion["coupon"], "promotion[coupon]")
    code = account.put(
        {
            "id": account.new_id("promo"),
            "object": "promotion_code",
            "active": params.get("active", True),
            "code": params.get("code") or account.new_id("", 8)[1:].upper(),
            "created": account.now(),
            "customer": params.get("customer"),
            "expires_at": params.get("expires_at"),
            "max_redemptions": params.get("max_redemptions"),
            "metadata": params.get("metadata", {}),
            "promotion": promotion,
            "times_redeemed": 0,
            "restrictions": {
                "first_time_transaction": False,
                "minimum_amount": None,
                "minimum_amount_currency": None,
                **params.get("restrictions", {}),
            },
        }
    )
    account.emit("promotion_code.created", code)
    return code


@route("GET", "/v1/promotion_codes/{id}", "PromotionCodeRetrieveParams")
def get_promotion_code(call: Call) -> Json:
    return call.account.find("promotion_code", call.id)


@route("POST", "/v1/promotion_codes/{id}", "PromotionCodeUpdateParams")
def update_promotion_code(call: Call) -> Json:
    return changed(call, "promotion_code", "promotion_code.updated", apart=("restrictions",))


@route("GET", "/v1/promotion_codes", "PromotionCodeListParams")
def list_promotion_codes(call: Call) -> Json:
    coupon = call.get("coupon")
    rows = [row for row in call.account.rows("promotion_code") if coupon in (None, row["promotion"]["coupon"])]
    return listed(call, rows, equal=("code", "active", "customer"))


@route("POST", "/v1/tax_rates", "TaxRateCreateParams")
def create_tax_rate(call: Call) -> Json:
    account = call.account
    given = {key: value for key, value in call.params.items() if key != "expand"}
    rate = account.put(
        {
            "active": True,
            "metadata": {},
            **given,
            "id": account.new_id("txr"),
            "object": "tax_rate",
            "created": account.now(),
            "effective_percentage": given["percentage"],
            "rate_type": "percentage",
        }
    )
    account.emit("tax_rate.created", rate)
    return rate


@route("GET", "/v1/tax_rates/{id}", "TaxRateRetrieveParams")
def get_tax_rate(call: Call) -> Json:
    return call.account.find("tax_rate", call.id)


@route("GET", "/v1/tax_rates", "TaxRateListParams")
def list_tax_rates(call: Call) -> Json:
    return listed(call, call.account.rows("tax_rate"), equal=("active", "inclusive"))
